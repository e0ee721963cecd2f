"""What a label sweep compares: methods, numbers of labels, draws of the atlases, and which cases train or score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

REGISTRATION, SEGMENTATION = "registration", "segmentation"
DEEPATLAS, DEEPATLAS_FUSED = "deepatlas", "deepatlas-fused"
CROSS_STITCH, TWO_PATHS = "cross-stitch", "two-paths"
METHODS = (REGISTRATION, SEGMENTATION, DEEPATLAS, DEEPATLAS_FUSED, CROSS_STITCH, TWO_PATHS)
TWO_NETWORKS = (SEGMENTATION, DEEPATLAS, DEEPATLAS_FUSED)
"""Methods with a segmentation network of its own; of the first it is all that is trained."""
ONE_NETWORK = (CROSS_STITCH, TWO_PATHS)
"""Methods whose one network segments a case beside an atlas."""
LABELS = (1, 2, 5, 10, 20)
TEST, HELD_OUT = "test", "unlabelled-held-out"
HELD_OUT_CASES = 36


@dataclass(frozen=True)
class Draw:
    """The atlases of one training.

    Parameters
    ----------
    labels
        How many.
    number
        Which draw, from 0.
    atlases
        Their ids, in the order of the split.
    """

    labels: int
    number: int
    atlases: tuple[str, ...]

    @property
    def name(self) -> str:
        """For people and for folders."""
        return f"{self.labels}-{self.number}"


@dataclass(frozen=True)
class Roles:
    """Who trains without a label, and who is scored; nobody does both."""

    unlabelled: tuple[str, ...]
    scored: tuple[str, ...]


def draws_of(ordered: Sequence[str], labels: Sequence[int], count: int, seed: int) -> list[Draw]:
    """All draws: the first of a number of labels are the first so many of `ordered`, the others by chance.

    Of all atlases there is but one choice: these draws differ in the seeds of their trainings alone.

    Raises
    ------
    ValueError
        If a number of labels is not from 1 to that of `ordered`.
    """
    wrong = [number for number in labels if not 1 <= number <= len(ordered)]
    if wrong:
        raise ValueError(f"labels must be from 1 to {len(ordered)}, got {wrong[0]}")
    return [
        Draw(number, draw, _drawn(ordered, number, draw, seed))
        for number in sorted(set(labels))
        for draw in range(count)
    ]


def _drawn(ordered: Sequence[str], number: int, draw: int, seed: int) -> tuple[str, ...]:
    if draw == 0:
        return tuple(ordered[:number])
    places = np.random.default_rng((seed, draw, number)).choice(len(ordered), size=number, replace=False)
    return tuple(ordered[place] for place in sorted(places.tolist()))


def roles_of(split: Mapping[str, Sequence[str]], cases: str, limit: int | None) -> Roles:
    """Unlabelled and scored cases; the held-out ones are the last of the unlabelled, which then do not train."""
    unlabelled = tuple(split["unlabelled"])
    if cases == TEST:
        return Roles(unlabelled, tuple(split["test"])[:limit])
    return Roles(unlabelled[:-HELD_OUT_CASES], unlabelled[-HELD_OUT_CASES:][:limit])
