"""Resampling: values of one image on the grid of another, through a transform."""

import torch
from torch import Tensor

from covoxel.spatial.grid import Grid
from covoxel.spatial.image import Image
from covoxel.spatial.transform import Transform
from covoxel.spatial.warp import Interpolation, Padding, sample


def resample(
    image: Image,
    onto: Grid,
    transform: Transform | None = None,
    *,
    interpolation: Interpolation = "linear",
    padding: Padding = "zeros",
) -> Image:
    """Intensities of `image` on the grid `onto`.

    Parameters
    ----------
    image
        The moving image.
    onto
        The fixed grid.
    transform
        From points of `onto` to points of `image`; the identity of the world by default.
        Its grid must be `onto`.
    interpolation, padding
        As for `covoxel.spatial.warp.sample`.
    """
    coordinates = _coordinates(image, onto, transform)
    values = sample(image.data[None, None].float(), coordinates, interpolation=interpolation, padding=padding)
    return Image(values[0, 0], onto)


def resample_probabilities(labels: Image, values: Tensor, onto: Grid, transform: Transform | None = None) -> Tensor:
    """Linearly interpolated indicator of each label value on the grid `onto`.

    Parameters
    ----------
    labels
        Label map, integer.
    values
        `(label,)` the label values wanted; points outside `labels` count as 0.

    Returns
    -------
    Tensor
        `(label, *onto.shape)` float32 in 0 to 1.
    """
    coordinates = _coordinates(labels, onto, transform)
    indicator = (labels.data[None] == values.view(-1, *[1] * onto.ndim)).float()
    outside = (values == 0).float().view(-1, *[1] * onto.ndim)
    # Interpolated relative to background, so that zero padding means background.
    return sample((indicator - outside)[None], coordinates, padding="zeros")[0] + outside


def resample_labels(labels: Image, onto: Grid, transform: Transform | None = None) -> Image:
    """Label map on the grid `onto`: the label whose interpolated indicator is largest (ties: the smallest value)."""
    values = torch.unique(torch.cat([labels.data.new_zeros(1), labels.data.reshape(-1)]))
    return Image(values[resample_probabilities(labels, values, onto, transform).argmax(0)], onto)


def _coordinates(image: Image, onto: Grid, transform: Transform | None) -> Tensor:
    transform = transform or Transform.identity(onto)
    if not transform.grid.isclose(onto):
        raise ValueError(f"transform must be defined on the grid {onto}, got {transform.grid}")
    return transform.moving_coordinates_vox(image.grid, image.data.device)
