"""What a trained network says of each visit, on the template's grid, so that all visits are seen alike."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from covoxel.longitudinal.series import ordered
from covoxel.segmentation import PairSegmenter, Segmented, segment_pairs
from covoxel.spatial import Image

Says = Callable[[Image], Segmented] | PairSegmenter
"""A network that sees an image, or one that sees labelled images beside it."""


def network_probabilities(
    network: Says,
    levelled: Mapping[str, Image],
    fused: Mapping[str, Tensor],
    template: Image,
    labels: Tensor,
    values: Tensor,
    *,
    device: torch.device | str = "cpu",
) -> dict[str, Tensor]:
    """Probabilities `(label, *shape)` of each visit, by name: the mean of what was fused and what a network says.

    A network that sees labelled images is shown the template and every other visit, each with its fused labels:
    earlier and later visits alike, so that time turned round changes nothing.

    Parameters
    ----------
    network
        A trained network; what it says of an image must lie on that image's grid.
    levelled
        All visits on the template's grid, as the network wants their intensities.
    fused
        Fused probabilities `(label, *shape)` of each visit.
    template, labels
        Of the subject, the image likewise, and its probabilities.
    values
        `(label,)`, background first.
    device
        Where labelled images are shown.

    Raises
    ------
    ValueError
        If the network knows other labels than these, or cannot see the images.
    """
    images = ordered(levelled)
    first = template, _contour(labels, values, template)
    shown = {name: (image, _contour(fused[name], values, image)) for name, image in images.items()}
    found = {}
    for name, image in images.items():
        beside = [first, *(pair for other, pair in shown.items() if other != name)]
        said = _says(network, image, beside, device)
        if said.values.tolist() != values.tolist():
            raise ValueError(
                f"a network must know the labels of the atlases, {values.tolist()}, got {said.values.tolist()}"
            )
        found[name] = (fused[name] + said.probabilities.to(fused[name])) / 2
    return found


def mean_probabilities(probabilities: Mapping[str, Tensor], levelled: Mapping[str, Image]) -> Tensor:
    """Mean of the probabilities of all visits, summed in an order that does not hang on their names."""
    return torch.stack([probabilities[name] for name in ordered(levelled)]).mean(0)


def _says(network: Says, image: Image, beside: list[tuple[Image, Image]], device: torch.device | str) -> Segmented:
    if isinstance(network, PairSegmenter):
        moving, label_maps = zip(*beside, strict=True)
        return segment_pairs(network, image, moving, label_maps, device=device)
    return network(image)


def _contour(probabilities: Tensor, values: Tensor, image: Image) -> Image:
    return Image(values[probabilities.argmax(0)], image.grid)
