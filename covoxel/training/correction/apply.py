"""What the network makes of fused probabilities: its answer, and the correction of a whole image."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from covoxel.registration.bounded import tiles
from covoxel.training.correction.cases import region
from covoxel.training.correction.settings import CorrectionSettings

LEAST = 0.01
"""What a label is taken to have at least of a voxel that fusion denies it: less could not be corrected."""

Logits = Callable[[Tensor], Tensor]
"""A network: from image and fused structures, `(batch, label, *shape)`, to logits alike."""


def answer(network: Logits, image: Tensor, probabilities: Tensor) -> Tensor:
    """Logits, `(batch, label, *shape)` float32: those of the fused probabilities, and what the network adds to them.

    A network that says nothing corrects nothing, so that little is spoilt where there is little to learn from.

    Parameters
    ----------
    network
        Sees the image, and of the fused probabilities those of the structures.
    image
        `(batch, 1, *shape)`.
    probabilities
        `(batch, label, *shape)`, fused, background first.
    """
    added = network(torch.cat([image, probabilities[:, 1:]], 1)).float()
    return added + probabilities.float().clamp_min(LEAST).log()


def correct(
    network: nn.Module, image: Tensor, probabilities: Tensor, settings: CorrectionSettings | None = None
) -> Tensor:
    """Fused probabilities, corrected: the mean of them and of what the network says near structures.

    Memory: a copy of the probabilities, and what the network works with on a tile. A region of more than
    `settings.whole_voxels` is taken in tiles as large as the patches of the training, which overlap and are blended.

    Parameters
    ----------
    network
        Trained by `train_correction`, on the device of the image.
    image
        `(*shape)` intensities of about 0 to 1.
    probabilities
        `(label, *shape)` float32, of fusion, summing to one.
    settings
        Those of the training.

    Returns
    -------
    Tensor
        `(label, *shape)`, summing to one; outside of the region as they were.
    """
    settings = settings or CorrectionSettings()
    box = region(probabilities, settings.margin_vox)
    result = probabilities.clone()
    if box is None:
        return result
    inside = (slice(None), *box)
    network.eval()
    with torch.no_grad():
        said = _in_tiles(network, image[box], probabilities[inside], settings)
    result[inside] = (probabilities[inside] + said) / 2
    return result


def _in_tiles(network: nn.Module, image: Tensor, probabilities: Tensor, settings: CorrectionSettings) -> Tensor:
    """Probabilities, `(label, *shape)`, that the network says of a region."""
    shape = tuple(image.shape)
    side = settings.patch_side(len(shape))
    sides = shape if image.numel() <= settings.whole_voxels else tuple(min(side, whole) for whole in shape)
    total, weights = torch.zeros_like(probabilities), torch.zeros_like(image)
    for tile in tiles(shape, sides):
        window = (slice(None), *tile.window)
        said = answer(network, image[tile.window][None, None], probabilities[window][None])[0].softmax(0)
        weight = tile.weight(said)
        total[window] += said * weight
        weights[tile.window] += weight
    return total / weights
