"""Pairs as tensors: images stacked as they are, or augmented."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from covoxel.spatial import sample
from covoxel.training.augmentation import Augmentation, random_maps
from covoxel.training.registration.cases import TrainingCase
from covoxel.training.registration.sampling import Chosen


@dataclass(frozen=True, eq=False)
class Pairs:
    """A batch of pairs on one grid. The first `L` of them have labels.

    Parameters
    ----------
    fixed, moving
        `(batch, 1, *shape)` intensities.
    fixed_mask, moving_mask
        `(batch, 1, *shape)` weights 0 to 1, inside the field of view.
    fixed_labels, moving_labels
        `(L, label, *shape)` probabilities of all labels but background.
    truth_vox
        `(batch, n, *shape)` displacement that is known to be right, fixed to moving; None where none is known.
    """

    fixed: Tensor
    moving: Tensor
    fixed_mask: Tensor
    moving_mask: Tensor
    fixed_labels: Tensor
    moving_labels: Tensor
    truth_vox: Tensor | None = None

    def __len__(self) -> int:
        return self.fixed.shape[0]

    @property
    def labelled(self) -> int:
        """Number of pairs with labels."""
        return self.fixed_labels.shape[0]

    def tensors(self) -> dict[str, Tensor]:
        """Its parts by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    def rows(self, wanted: slice) -> "Pairs":
        """Some of the pairs."""
        return Pairs(**{name: part[wanted] for name, part in self.tensors().items()})

    @property
    def exchanged(self) -> "Pairs":
        """The pairs with the roles of fixed and moving exchanged; the known displacement is left behind."""
        return Pairs(self.moving, self.fixed, self.moving_mask, self.fixed_mask, self.moving_labels, self.fixed_labels)


def plain_pairs(
    cases: Sequence[TrainingCase], chosen: Sequence[Chosen], values: int, device: torch.device | str
) -> Pairs:
    """The pairs as they are; `values` is the number of labels, background included."""
    fixed = Stack.of([cases[c.fixed] for c in chosen], chosen, values, device)
    moving = Stack.of([cases[c.moving] for c in chosen], chosen, values, device)
    return _pairs(fixed, moving)


def augmented_pairs(
    cases: Sequence[TrainingCase],
    chosen: Sequence[Chosen],
    values: int,
    how: Augmentation,
    source: torch.Generator,
    device: torch.device | str,
) -> Pairs:
    """The pairs, changed by `augmented`."""
    fixed = Stack.of([cases[c.fixed] for c in chosen], chosen, values, device)
    moving = Stack.of([cases[c.moving] for c in chosen], chosen, values, device)
    return _pairs(*augmented(fixed, moving, how, source))


def repaint(image: Tensor, how: Augmentation, source: torch.Generator) -> Tensor:
    """Images `(batch, 1, *shape)` of another contrast and brightness, and noisy; drawn from `source`, on the CPU."""
    numbers = torch.randn((2, image.shape[0]), generator=source)
    level = torch.rand(image.shape[0], generator=source) * how.noise
    seed = int(torch.randint(2**62, (1,), generator=source))
    on_device = torch.Generator(image.device).manual_seed(seed)
    noise = torch.randn(image.shape, generator=on_device, device=image.device)
    contrast, brightness, level = (
        part.view(-1, *[1] * (image.ndim - 1)).to(image.device)
        for part in ((how.gain * numbers[0]).exp(), how.gain * numbers[1], level)
    )
    return noise.mul_(level).addcmul_(image, contrast).add_(brightness)


@dataclass(frozen=True, eq=False)
class Stack:
    """One side of the pairs: image `(batch, 1, *shape)`, mask alike, labels `(L, label, *shape)`."""

    image: Tensor
    mask: Tensor
    labels: Tensor

    @classmethod
    def of(
        cls, cases: Sequence[TrainingCase], chosen: Sequence[Chosen], values: int, device: torch.device | str
    ) -> "Stack":
        """One case a row; `chosen` says which show their labels."""
        image = torch.stack([case.image for case in cases])[:, None].to(device).float()
        mask = torch.stack([case.mask for case in cases])[:, None].to(device).float()
        places = [case.labels for case, c in zip(cases, chosen, strict=True) if c.labelled and case.labels is not None]
        foreground = torch.arange(1, max(values, 1), device=device).view(1, -1, *[1] * (image.ndim - 2))
        if not places:
            return cls(image, mask, image.new_zeros((0, foreground.shape[1], *image.shape[2:])))
        labels = (torch.stack(places)[:, None].to(device) == foreground).float()
        return cls(image, mask, labels)

    def at(self, coordinates_vox: Tensor) -> "Stack":
        """Seen at voxel coordinates, in one sampling of all there is of an image."""
        image, mask, labels = sample_all(self.image, self.mask, self.labels, coordinates_vox)
        return Stack(image, mask, labels)

    def repainted(self, how: Augmentation, source: torch.Generator) -> "Stack":
        """Of another contrast and brightness, and noisy."""
        return Stack(repaint(self.image, how, source), self.mask, self.labels)


def sample_all(image: Tensor, mask: Tensor, labels: Tensor, coordinates_vox: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Images, masks and labels at voxel coordinates, the channels of an image in one sampling.

    Parameters
    ----------
    image, mask
        `(batch, 1, *shape)`.
    labels
        `(L, label, *shape)`, of the first `L` images.
    coordinates_vox
        `(batch, n, *shape)`.

    Returns
    -------
    tuple of Tensor
        As the first three. Beyond the border the image is continued and the mask is 0.
    """
    count = labels.shape[0]
    parts = []
    if count:
        parts.append(sample(torch.cat([image[:count], mask[:count], labels], 1), coordinates_vox[:count]))
    if count < image.shape[0]:
        parts.append(sample(torch.cat([image[count:], mask[count:]], 1), coordinates_vox[count:]))
    moved, seen = (torch.cat([part[:, channel : channel + 1] for part in parts]) for channel in range(2))
    inside = _inside(coordinates_vox.detach(), image.shape[2:])
    return moved, seen.detach() * inside, parts[0][:, 2:] if count else labels


def _inside(coordinates_vox: Tensor, shape: Sequence[int]) -> Tensor:
    """Whether coordinates fall on the image, `(batch, 1, *shape)` of 0 and 1."""
    result = None
    for axis, side in enumerate(shape):
        centre = (side - 1) / 2
        within = (coordinates_vox[:, axis : axis + 1] - centre).abs_() <= side / 2
        result = within if result is None else result.logical_and_(within)
    assert result is not None
    return result.to(coordinates_vox.dtype)


def augmented(fixed: Stack, moving: Stack, how: Augmentation, source: torch.Generator) -> tuple[Stack, Stack]:
    """Both sides of the pairs, one image of each warped with its mask and labels, the intensities of both changed.

    Which image is drawn: warping both would cost as much again and change what lies between them no more. `source`
    is a generator on the CPU.
    """
    image = fixed.image
    warps_fixed = (torch.rand(image.shape[0], generator=source) < 0.5).tolist()
    maps = random_maps(tuple(image.shape[2:]), how, source, count=image.shape[0], device=image.device)
    one = _rowwise(warps_fixed, fixed, moving).at(maps)
    other = _rowwise(warps_fixed, moving, fixed)
    one, other = one.repainted(how, source), other.repainted(how, source)
    return _rowwise(warps_fixed, one, other), _rowwise(warps_fixed, other, one)


def _pairs(fixed: Stack, moving: Stack) -> Pairs:
    return Pairs(fixed.image, moving.image, fixed.mask, moving.mask, fixed.labels, moving.labels)


def _rowwise(first: Sequence[bool], one: Stack, other: Stack) -> Stack:
    """Row by row from `one` where `first`, else from `other`."""
    return Stack(*(_chosen(first, getattr(one, f.name), getattr(other, f.name)) for f in fields(Stack)))


def _chosen(first: Sequence[bool], one: Tensor, other: Tensor) -> Tensor:
    rows = range(one.shape[0])
    return torch.stack([one[r] if first[r] else other[r] for r in rows]) if one.shape[0] else one
