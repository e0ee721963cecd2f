"""Facts: results on a labelled case with their signs and true Dice, the rows a calibration is fitted on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from torch import Tensor

from covoxel.fusion import strict
from covoxel.fusion.base import Evidence
from covoxel.fusion.candidates import FusedImage, candidates
from covoxel.fusion.planted import planted
from covoxel.fusion.quality import NAMES, Signs, signs_of
from covoxel.fusion.source import Source, in_memory, source_of
from covoxel.metrics.dice import dice

CLEAN = "clean"
"""Kind of a fact about evidence as it is, nothing planted."""


@dataclass(frozen=True)
class Fact:
    """One result on one labelled case.

    Parameters
    ----------
    case
        Name of the case.
    rule
        Name of the rule.
    kind
        "clean", or the failure planted in the evidence.
    signs
        `{sign: number}` of `covoxel.fusion.quality`.
    dice
        True Dice, 0 to 1, mean over the structures.
    """

    case: str
    rule: str
    kind: str
    signs: Signs
    dice: float

    def to_json(self) -> dict[str, Any]:
        """Plain strings and numbers."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Any) -> "Fact":
        """The fact of a row of `to_json`.

        Raises
        ------
        ValueError
            If keys are missing or unknown, or a number is not finite or out of range.
        """
        row = strict.mapping("a fact", row, ("case", "rule", "kind", "signs", "dice"))
        case, rule, kind = (strict.word(f"{key} of a fact", row[key]) for key in ("case", "rule", "kind"))
        signs = strict.mapping("signs of a fact", row["signs"], NAMES)
        numbers = {name: strict.number(f"{name} of a fact", signs[name]) for name in NAMES}
        return cls(case, rule, kind, numbers, strict.number("dice of a fact", row["dice"], 0, 1))


def facts_of(
    case: str,
    given: Source | Evidence,
    truth: Tensor,
    rules: Mapping[str, Mapping[str, Any]],
    *,
    plant: int = 4,
    seed: int = 0,
    trust: Sequence[float] | None = None,
) -> list[Fact]:
    """Facts about one labelled case, from the evidence of the other atlases.

    Parameters
    ----------
    case
        Its name.
    given
        The other atlases, warped onto it. It must not be among them: a case that votes on itself is always right.
    truth
        `(*shape)` its true labels on the grid of the evidence.
    rules
        Settings by name of rule.
    plant
        Number of kinds of failure planted as well (`covoxel.fusion.planted`), each as much work again. They are drawn
        by the seed: over the cases all kinds come up.
    seed
        Seed of the planted failures; another one for each case.
    trust
        Weights of the atlases, for `signs_of`.

    Returns
    -------
    list of Fact
        A row for each candidate (see `covoxel.fusion.candidates`) and kind.
    """
    source = source_of(given)
    rows = _rows(case, CLEAN, source, truth, rules, trust)
    for kind, spoilt in planted(source, seed=seed, count=plant):
        rows += _rows(case, kind, in_memory(spoilt), truth, rules, trust)
    return rows


def _rows(
    case: str,
    kind: str,
    source: Source,
    truth: Tensor,
    rules: Mapping[str, Mapping[str, Any]],
    trust: Sequence[float] | None,
) -> list[Fact]:
    results = candidates(source, rules)
    signs = signs_of(source, results, trust=trust)
    return [Fact(case, rule, kind, signs[rule], mean_dice(results[rule], truth, source)) for rule in results]


def mean_dice(fused: FusedImage, truth: Tensor, given: Source | Evidence) -> float:
    """Mean over the structures of their Dice with the truth, 0 where there is none to compare."""
    known = [d for d in dice(fused.label_map, truth, given.values).values() if isfinite(d)]
    return sum(known) / len(known) if known else 0.0


def facts_to_json(facts: Iterable[Fact]) -> list[dict[str, Any]]:
    """Rows of plain words and numbers."""
    return [fact.to_json() for fact in facts]


def facts_from_json(rows: Any) -> list[Fact]:
    """Facts of a list of rows; see `Fact.from_json`."""
    if not isinstance(rows, list):
        raise ValueError(f"facts must be a list of rows, got {strict.shortened(rows)}")
    return [Fact.from_json(row) for row in rows]
