"""Batches of joint training: images, or pairs of them, with the labels that there are of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from covoxel.training.augmentation import Augmentation, random_maps
from covoxel.training.joint.material import Box, Given, Material
from covoxel.training.registration.pairs import Stack, augmented
from covoxel.training.registration.sampling import Chosen


@dataclass(frozen=True, eq=False)
class Images:
    """Images with their labels, or one side of pairs.

    Parameters
    ----------
    image, mask
        `(batch, 1, *shape)` intensities, and weights 0 to 1 inside the field of view.
    labels
        `(batch, label - 1, *shape)` probabilities of all labels but background; zeros where there are no labels.
    weight
        `(batch, 1, *shape)` how far the labels are trusted.
    known
        `(batch, label - 1, 1, …)` of 0 and 1: structures that the labels tell; 1 where there are no labels.
    given
        Which labels each has.
    """

    image: Tensor
    mask: Tensor
    labels: Tensor
    weight: Tensor
    known: Tensor
    given: tuple[Given, ...]

    def __len__(self) -> int:
        return self.image.shape[0]

    def rows(self, wanted: slice) -> "Images":
        """Some of them."""
        return self._taken(lambda part: part[wanted], self.given[wanted])

    def at(self, rows: Sequence[int]) -> "Images":
        """Those at places `rows`."""
        index = torch.tensor(rows, dtype=torch.int64, device=self.image.device)
        return self._taken(lambda part: part[index], tuple(self.given[row] for row in rows))

    def _taken(self, take: Callable[[Tensor], Tensor], given: tuple[Given, ...]) -> "Images":
        taken = map(take, (self.image, self.mask, self.labels, self.weight, self.known))
        image, mask, labels, weight, known = taken
        return Images(image, mask, labels, weight, known, given)


@dataclass(frozen=True, eq=False)
class JointPairs:
    """Pairs on one grid.

    Parameters
    ----------
    fixed, moving
        Both sides.
    alpha
        `(batch,)` how much of the displacement moves a labelled moving image that teaches; None: it teaches as it is.
    """

    fixed: Images
    moving: Images
    alpha: Tensor | None = None

    def __len__(self) -> int:
        return len(self.fixed)

    def rows(self, wanted: slice) -> "JointPairs":
        """Some of the pairs."""
        alpha = None if self.alpha is None else self.alpha[wanted]
        return JointPairs(self.fixed.rows(wanted), self.moving.rows(wanted), alpha)

    def at(self, rows: Sequence[int]) -> "JointPairs":
        """Those at places `rows`."""
        alpha = None if self.alpha is None else self.alpha[list(rows)]
        return JointPairs(self.fixed.at(rows), self.moving.at(rows), alpha)

    @property
    def true(self) -> list[int]:
        """Number of true labels of each pair."""
        both = zip(self.fixed.given, self.moving.given, strict=True)
        return [(one is Given.TRUE) + (other is Given.TRUE) for one, other in both]


def images_of(
    material: Material,
    places: Sequence[int],
    device: torch.device | str,
    how: Augmentation | None = None,
    source: torch.Generator | None = None,
    boxes: Sequence[Box] | None = None,
) -> Images:
    """The cases at `places` with their labels; each warped and repainted, if it is said how, by `source`.

    Of `boxes`, one for each, only what is inside; all are of one shape.
    """
    side = _Side(material, places, device, boxes)
    if how is None or source is None:
        return side.images(side.stack)
    shape = tuple(side.stack.image.shape[2:])
    maps = random_maps(shape, how, source, count=len(places), device=device)
    return side.images(side.stack.at(maps).repainted(how, source))


def pairs_of(
    material: Material,
    chosen: Sequence[Chosen],
    device: torch.device | str,
    how: Augmentation | None = None,
    source: torch.Generator | None = None,
    boxes: Sequence[Box] | None = None,
) -> JointPairs:
    """Pairs of cases with their labels; changed as those of the registration network, if it is said how.

    Of `boxes`, one for each pair, only what is inside on both sides; all are of one shape.
    """
    fixed, moving = (
        _Side(material, places, device, boxes) for places in ([c.fixed for c in chosen], [c.moving for c in chosen])
    )
    if how is None or source is None:
        return JointPairs(fixed.images(fixed.stack), moving.images(moving.stack))
    one, other = augmented(fixed.stack, moving.stack, how, source)
    return JointPairs(fixed.images(one), moving.images(other))


class _Side:
    """Cases as a stack whose last channel of labels is their weight: what warps one warps all."""

    def __init__(
        self,
        material: Material,
        places: Sequence[int],
        device: torch.device | str,
        boxes: Sequence[Box] | None = None,
    ) -> None:
        cases = [material.cases[place] for place in places]
        boxes = [()] * len(cases) if boxes is None else boxes
        cut = list(zip(cases, boxes, strict=True))
        labels = [material.labels(place, device, box) for place, box in zip(places, boxes, strict=True)]
        self.stack = Stack(
            torch.stack([case.image[box] for case, box in cut])[:, None].to(device).float(),
            torch.stack([case.mask[box] for case, box in cut])[:, None].to(device).float(),
            torch.stack([torch.cat([foreground, weight]) for foreground, weight, _ in labels]),
        )
        known = torch.stack([known for _, _, known in labels])
        self.known = known.view(*known.shape, *[1] * cases[0].image.ndim)
        self.given = tuple(material.given(place) for place in places)

    def images(self, stack: Stack) -> Images:
        return Images(stack.image, stack.mask, stack.labels[:, :-1], stack.labels[:, -1:], self.known, self.given)
