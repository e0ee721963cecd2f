"""Segmentation of an image by a network that sees it alone, several times if asked for."""

import numpy as np
import torch
from torch import Tensor

from covoxel.registration.bounded import BoundedNetwork
from covoxel.registration.work import WorkGrid
from covoxel.segmentation.model import ImageModel
from covoxel.segmentation.segmented import Segmented, ViewMean, at_once, probabilities_of
from covoxel.segmentation.views import random_views
from covoxel.spatial import Grid, Image, voxel_coordinates
from covoxel.spatial.transform import apply_matrix


def segment(
    model: ImageModel,
    image: Image,
    *,
    onto: Grid | None = None,
    views: int = 8,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Segmented:
    """Probabilities of labels by what a network says of an image.

    The network sees the image on its own grid where orientation (nearest to RAS) and voxel size (within 10 %) are what
    it was trained on, else on such a grid over the same field of view. It sees it `views` times, as it is and turned,
    stretched and shifted a little; what it says of each view is brought back by one linear interpolation, from where
    it saw to where it is wanted, and averaged. Memory: the probabilities wanted, those of one view, 256 MiB, and what
    the network works with; a network that finds too little takes the image in tiles.

    Parameters
    ----------
    model
        The trained network.
    image
        Intensities of about 0 to 1.
    onto
        Where the probabilities are wanted; by default on the image's grid. Beyond the image is background.
    views
        How often the network sees the image. More of them cost as much again each, and smooth away chance.
    seed
        Of the views; the same one gives the same bits on a CPU.
    device
        Where the work is done.

    Raises
    ------
    ValueError
        If the image is too small for the network or has another number of axes, `views` is not positive, or the
        network says something that is not finite.
    """
    work = WorkGrid.of(image.grid, model)
    grid, image = onto or image.grid, image.to(device)
    devices = dict.fromkeys((image.data.device, torch.device("cpu")))
    network = BoundedNetwork(model.logits, model, work.grid.shape, list(devices), "view")
    mean, labels = ViewMean(model.values, grid, image.data.device), len(model.values)
    matrices, together = random_views(work.grid, views, seed), at_once(len(model.values), work.grid)
    with torch.no_grad():
        for start in range(0, views, together):
            part = matrices[start : start + together]
            seen = work.views(image, part)
            for matrix, said in zip(part, probabilities_of(network(seen), labels), strict=True):
                view_from_wanted = np.linalg.inv(work.grid.ras_from_voxel @ matrix) @ grid.ras_from_voxel
                mean.add(said, _coordinates(view_from_wanted, grid, said))
    return mean.segmented()


def _coordinates(view_from_wanted: np.ndarray, grid: Grid, like: Tensor) -> Tensor:
    """Where in a view each voxel of `grid` lies, `(1, n, *grid.shape)`."""
    return apply_matrix(torch.tensor(view_from_wanted[None]).to(like), voxel_coordinates(grid.shape, like))
