"""Which pairs of which set are registered: some for choosing settings, others for the table."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any, Literal

from benchmarks import common
from covoxel.io import read_table

Purpose = Literal["choose", "show"]


@dataclass(frozen=True)
class Pair:
    """Names of a fixed and a moving case."""

    fixed: str
    moving: str


@dataclass(frozen=True)
class PairSet:
    """Pairs of a set of scans.

    Attributes
    ----------
    folder
        With `images` and `labels`, a file a case.
    pairs
        Fixed and moving cases.
    structures
        Labels that are scored; empty for all of the fixed case.
    """

    folder: Path
    pairs: tuple[Pair, ...]
    structures: tuple[int, ...] = ()


def pairs_of(name: str, purpose: Purpose, most: int | None = None) -> PairSet:
    """The pairs of a set, the first `most` of them; those to choose settings on share no case with those to show."""
    folder = common.data_folder(name)
    pairs, structures = _SETS[name](folder, purpose)
    return PairSet(folder, tuple(pairs)[:most], tuple(structures))


def _hippocampus(folder: Path, purpose: Purpose) -> tuple[Sequence[Pair], Sequence[int]]:
    split = _split(folder)
    if purpose == "show":
        return [Pair(*pair) for pair in product(split["test"][:12], split["atlases"][:10])], (1, 2)
    cases = split["unlabelled"][:48]
    return [Pair(*pair) for pair in zip(cases[:24], cases[24:], strict=True)], (1, 2)


def _mouse(folder: Path, purpose: Purpose) -> tuple[Sequence[Pair], Sequence[int]]:
    """Pairs across the three groups, of two animals each, every two once."""
    people = read_table(folder / "participants.tsv")
    half = slice(2, 4) if purpose == "show" else slice(0, 2)
    groups = [list(animals["participant_id"])[half] for _, animals in people.groupby("group", sort=True)]
    pairs = [pair for one, other in combinations(groups, 2) for pair in product(one, other)]
    return [Pair(*(pair if number % 2 else pair[::-1])) for number, pair in enumerate(pairs)], ()


def _oasis35(folder: Path, purpose: Purpose) -> tuple[Sequence[Pair], Sequence[int]]:
    split = _split(folder)
    atlases = split["atlases"]
    if purpose == "show":
        return [Pair(*pair) for pair in zip(split["test"][:6], atlases[4:10], strict=True)], split["scored"]
    return [Pair(atlases[a], atlases[b]) for a, b in ((0, 1), (1, 2), (2, 3), (3, 0))], split["scored"]


def _split(folder: Path) -> dict[str, Any]:
    split: dict[str, Any] = json.loads((folder / "split.json").read_text(encoding="utf-8"))
    return split


_SETS: dict[str, Callable[[Path, Purpose], tuple[Sequence[Pair], Sequence[int]]]] = {
    "hippocampus": _hippocampus,
    "mouse": _mouse,
    "oasis35": _oasis35,
}
SETS = tuple(_SETS)
