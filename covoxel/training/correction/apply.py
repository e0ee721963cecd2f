"""What the network makes of fused probabilities: its answer, and the correction of a whole image."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from covoxel.fusion.tiling import beyond, within
from covoxel.io.scratch import Scratch
from covoxel.registration.bounded import tiles
from covoxel.training.correction.cases import Box, region
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


class Parts(Protocol):
    """Probabilities, `(label, *shape)`, that are read part by part: a `ScratchArray`, or what `TensorParts` makes."""

    shape: tuple[int, ...]

    def read(self, part: tuple[slice | int, ...], /) -> Tensor:
        """A copy of a part."""
        ...


class TensorParts:
    """A tensor, which may lie on the disk, read part by part.

    Parameters
    ----------
    tensor
        Of any floating point type.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.shape = tuple(tensor.shape)
        self._tensor = tensor

    def read(self, part: tuple[slice | int, ...], /) -> Tensor:
        """A copy."""
        return self._tensor[part].clone()


class Corrected:
    """Fused probabilities, corrected: the mean of them and of what the network says near structures.

    A region of more than `settings.whole_voxels` is taken in tiles as large as the patches of the training, which
    overlap and are blended. Memory: what the network works with on a tile, and five bytes a voxel; what it says goes to
    scratch.

    Parameters
    ----------
    network
        Trained by `train_correction`, on the device of the image.
    image
        `(*shape)` intensities of about 0 to 1.
    fused
        Probabilities of fusion, summing to one.
    scratch
        Takes four bytes a voxel and label of the region.
    settings
        Those of the training.
    """

    def __init__(
        self,
        network: nn.Module,
        image: Tensor,
        fused: Parts,
        scratch: Scratch,
        settings: CorrectionSettings | None = None,
    ) -> None:
        self._fused, self._device = fused, image.device
        settings = settings or CorrectionSettings()
        self._box = region(fused.read((slice(0, 1),)).float(), settings.margin_vox)
        if self._box is None:
            return
        shape = tuple(part.stop - part.start for part in self._box)
        self._said = scratch.array((fused.shape[0], *shape), torch.float32)
        self._weights = torch.zeros(shape, device=image.device)
        network.eval()
        with torch.no_grad():
            self._ask(network, image[self._box], settings)

    def read(self, window: Box) -> Tensor:
        """Probabilities, `(label, *window)` float32, summing to one; outside of the region as they were."""
        result = self._fused.read((slice(None), *window)).float().to(self._device)
        if self._box is None:
            return result
        both = [slice(max(w.start, b.start), min(w.stop, b.stop)) for w, b in zip(window, self._box, strict=True)]
        if any(part.start >= part.stop for part in both):
            return result
        here = within(tuple(both), window)
        there = within(tuple(both), self._box)
        said = self._said.read((slice(None), *there)).to(self._device) / self._weights[there]
        at = (slice(None), *here)
        result[at] = (result[at] + said) / 2
        return result

    def _ask(self, network: nn.Module, image: Tensor, settings: CorrectionSettings) -> None:
        """Add up, in scratch, what the network says of the tiles of the region."""
        assert self._box is not None
        shape = tuple(image.shape)
        side = settings.patch_side(len(shape))
        sides = shape if image.numel() <= settings.whole_voxels else tuple(min(side, whole) for whole in shape)
        for tile in tiles(shape, sides):
            fused = self._fused.read((slice(None), *beyond(tile.window, self._box))).float().to(image.device)
            said = answer(network, image[tile.window][None, None], fused[None])[0].softmax(0)
            weight = tile.weight(said)
            window = (slice(None), *tile.window)
            self._said.write(window, self._said.read(window).to(image.device) + said * weight)
            self._weights[tile.window] += weight


def correct(
    network: nn.Module, image: Tensor, probabilities: Tensor, settings: CorrectionSettings | None = None
) -> Tensor:
    """Fused probabilities, `(label, *shape)` float32, corrected, all at once; arguments as for `Corrected`."""
    with Scratch() as scratch:
        corrected = Corrected(network, image, TensorParts(probabilities), scratch, settings)
        return corrected.read(tuple(slice(0, side) for side in image.shape))
