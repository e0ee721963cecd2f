"""Material: the cases with what is known of their labels, and who of them teaches."""

import zlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol

import torch
from torch import Tensor

from covoxel.training.registration.cases import TrainingCase, check_cases, fingerprint
from covoxel.training.seeds import generator

Box = tuple[slice, ...]
"""A part of an image, a slice along each axis; `()`: all of it."""


@dataclass(frozen=True, eq=False)
class FusedLabels:
    """Labels that were not drawn but fused of many atlases, with how far they are trusted.

    Parameters
    ----------
    labels
        `(label, *shape)` probabilities of all labels, background first, of any floating type; or `(*shape)` of an
        integer type, places in the cohort's list of labels.
    confidence
        `(*shape)` weights 0 to 1 of the voxels; all alike by default.
    """

    labels: Tensor
    confidence: Tensor | None = None

    def check(self, case: TrainingCase, values: int) -> None:
        """See that they are of this case.

        Raises
        ------
        ValueError
            If shapes, types or numbers are not as they should be.
        """
        shape = tuple(case.image.shape)
        soft = self.labels.is_floating_point()
        wanted = (values, *shape) if soft else shape
        if tuple(self.labels.shape) != wanted:
            raise ValueError(f"case {case.id}: fused labels must have shape {wanted}, got {tuple(self.labels.shape)}")
        least, most = float(self.labels.amin()), float(self.labels.amax())
        if not (least >= 0 and most <= (1.01 if soft else values - 1)):
            rule = "probabilities" if soft else f"places 0 to {values - 1}"
            raise ValueError(f"case {case.id}: fused labels must be {rule}, found {least:g} to {most:g}")
        if self.confidence is None:
            return
        if tuple(self.confidence.shape) != shape:
            raise ValueError(f"case {case.id}: confidence must have shape {shape}, got {tuple(self.confidence.shape)}")
        if not bool(((self.confidence >= 0) & (self.confidence <= 1)).all()):
            raise ValueError(f"case {case.id}: confidence must be from 0 to 1")

    @property
    def places(self) -> Tensor:
        """`(*shape)` of an integer type: the likeliest label of each voxel."""
        return self.labels.argmax(0) if self.labels.is_floating_point() else self.labels

    def cut(self, box: Box) -> "FusedLabels":
        """What is in `box`, of the image's axes."""
        confidence = None if self.confidence is None else self.confidence[box]
        labels = self.labels[:, *box] if self.labels.is_floating_point() else self.labels[box]
        return FusedLabels(labels, confidence)

    def foreground(self, values: int, device: torch.device | str) -> Tensor:
        """`(label - 1, *shape)` float32 probabilities of all labels but background."""
        if self.labels.is_floating_point():
            return self.labels[1:].to(device).float()
        return one_hot(self.labels.to(device), values)


def one_hot(labels: Tensor, values: int) -> Tensor:
    """`(values - 1, *shape)` float32 indicators of all labels but background, of places `(*shape)`."""
    places = torch.arange(1, values, device=labels.device)
    return (labels[None] == places.view(-1, *[1] * labels.ndim)).float()


class Given(IntEnum):
    """Which labels there are of a case."""

    NONE = 0
    FUSED = 1
    TRUE = 2


class Material:
    """Cases and their labels.

    Parameters
    ----------
    cases
        All of them.
    values
        Number of labels, background included.
    fused
        Fused labels of some cases that have no true ones, by id.
    known
        Structures, places in the list of labels, that the true labels of a case tell, by id, present or not. By
        default those that are present. Of the others nothing is known: they may be where the labels say background.
    """

    def __init__(
        self,
        cases: Sequence[TrainingCase],
        values: int,
        fused: Mapping[str, FusedLabels] | None = None,
        known: Mapping[str, AbstractSet[int]] | None = None,
    ) -> None:
        check_cases(cases, values)
        self.cases, self.values, self.fused = tuple(cases), values, dict(fused or {})
        by_id = {case.id: case for case in cases}
        for name, labels in self.fused.items():
            if name not in by_id or by_id[name].labels is not None:
                raise ValueError(f"fused labels must be of a case without true ones, got some of {name!r}")
            labels.check(by_id[name], values)
        self.known = {case.id: _known(case, values, known or {}) for case in cases if case.labels is not None}

    def given(self, place: int) -> Given:
        """Which labels there are of the case at `place`."""
        case = self.cases[place]
        if case.labels is not None:
            return Given.TRUE
        return Given.FUSED if case.id in self.fused else Given.NONE

    def places(self, given: Given) -> list[int]:
        """Places of the cases that have such labels."""
        return [place for place in range(len(self.cases)) if self.given(place) is given]

    def labels(self, place: int, device: torch.device | str = "cpu", box: Box = ()) -> tuple[Tensor, Tensor, Tensor]:
        """Foreground `(label - 1, *shape)`, weight `(1, *shape)` and what is known `(label - 1,)`, of 0 and 1.

        Of the case at `place`, or of what is in `box` of it.
        """
        case, everything = self.cases[place], torch.ones(self.values - 1, device=device)
        shape = case.mask[box].shape
        whole = torch.ones((1, *shape), device=device)
        if case.labels is not None:
            told = [float(value in self.known[case.id]) for value in range(1, self.values)]
            return one_hot(case.labels[box].to(device), self.values), whole, torch.tensor(told, device=device)
        if case.id in self.fused:
            fused = self.fused[case.id].cut(box)
            weight = whole if fused.confidence is None else fused.confidence[None].to(device).float()
            return fused.foreground(self.values, device), weight, everything
        return torch.zeros((self.values - 1, *shape), device=device), whole, everything

    @property
    def fingerprint(self) -> str:
        """What tells this material from other: checksums over names, voxels and labels."""
        total = 0
        for name in sorted(self.fused):
            total = zlib.crc32(name.encode(), total)
            for part in (self.fused[name].labels, self.fused[name].confidence):
                if part is not None:
                    total = zlib.crc32(part.contiguous().cpu().numpy().tobytes(), total)
        told = ";".join(f"{name}:{sorted(values)}" for name, values in sorted(self.known.items()))
        total = zlib.crc32(told.encode(), total)
        return f"{fingerprint(self.cases)}, {len(self.fused)} with fused labels, {total:08x}"

    def notes(self) -> list[str]:
        """What is worth saying of the labels, a sentence each."""
        everything, notes = set(range(1, self.values)), []
        learnt = set().union(*self.known.values()) if self.known else set()
        if self.fused:
            learnt = everything
        if self.known and everything - learnt:
            notes.append(f"no case has a label of {_places(everything - learnt)}: it cannot be learnt")
        parts = [name for name, values in self.known.items() if learnt - values]
        if parts:
            few = ", ".join(parts[:5]) + (" and others" if len(parts) > 5 else "")
            notes.append(
                f"label sets differ: {few} lack structures of others, which are neither taught nor punished there"
            )
        return notes


def _known(case: TrainingCase, values: int, known: Mapping[str, AbstractSet[int]]) -> frozenset[int]:
    assert case.labels is not None
    present = frozenset(torch.unique(case.labels).tolist()) - {0}
    if case.id not in known:
        return present
    told = frozenset(known[case.id]) - {0}
    if not present <= told or not told <= set(range(values)):
        raise ValueError(
            f"case {case.id}: known structures must be among 0 to {values - 1} and hold all that its labels show, "
            f"{sorted(present)}, got {sorted(told)}"
        )
    return told


def _places(places: AbstractSet[int]) -> str:
    return f"place {', '.join(map(str, sorted(places)))} in the list of labels"


class HoldsOut(Protocol):
    """What is read of a recipe; see `JointRecipe`."""

    @property
    def held_out(self) -> int:
        """Labelled cases that judge."""
        ...

    @property
    def seed(self) -> int:
        """By which they are drawn."""
        ...


def held_out(cases: Sequence[TrainingCase], recipe: HoldsOut) -> tuple[str, ...]:
    """Names of the labelled cases that judge and teach no label: whole subjects, drawn by the recipe's seed.

    Raises
    ------
    ValueError
        If no labelled case would be left to teach.
    """
    people: dict[str, list[str]] = {}
    for case in cases:
        if case.labels is not None:
            people.setdefault(case.person, []).append(case.id)
    order = torch.randperm(len(people), generator=generator(recipe.seed, "held out labels")).tolist()
    names, chosen = list(people.values()), list[str]()
    for index in order:
        if len(chosen) < recipe.held_out:
            chosen += names[index]
    if recipe.held_out and len(chosen) >= sum(map(len, names)):
        raise ValueError(f"held_out must leave a labelled case to teach, got {recipe.held_out} of {len(chosen)}")
    return tuple(sorted(chosen))


def without_labels(cases: Sequence[TrainingCase], names: Sequence[str]) -> list[TrainingCase]:
    """The cases, those of `names` without their labels."""
    return [replace(case, labels=None) if case.id in names else case for case in cases]
