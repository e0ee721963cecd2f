"""Which atlases vote: the most alike are kept, one that contradicts all others is left out, and it is said why."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from covoxel.fusion.base import Evidence, fuse, smallest_type, smallest_winner
from covoxel.fusion.likeness import comparable
from covoxel.fusion.source import Source, place_of, source_of
from covoxel.fusion.survey import overlaps_of
from covoxel.fusion.windows import correlation
from covoxel.losses.box import box_sum
from covoxel.metrics.dice import dice

GROSS = 0.75
"""An atlas whose overlap with the others is below this share of the typical overlap may contradict them."""

_UNUSUAL = 5.0  # and does if it is this many times farther below the typical than an atlas typically is off it

_REACH = 2  # voxels around structures that count as near, and half side of the windows compared
_SEEN = 0.05  # a label with less of a voxel is not there


@dataclass(frozen=True)
class Choice:
    """Atlases of one case.

    Parameters
    ----------
    kept
        Names of those that vote, best first.
    rejected
        Why each of the others does not: a sentence by name.
    """

    kept: tuple[str, ...]
    rejected: dict[str, str]


def choose_atlases(
    scores: Mapping[str, float],
    *,
    count: int | None = None,
    share_of_best: float | None = None,
    minimum: int = 3,
    measure: str = "likeness",
    contradicting: Mapping[str, str] | None = None,
) -> Choice:
    """Atlases to fuse, by a score of each.

    Parameters
    ----------
    scores
        Higher is better; whatever the unit: likeness after affine registration, a learned weight, the negative distance
        to the case in the space of a template. Equal scores are ordered by name.
    count
        Keep the best so many; None keeps all.
    share_of_best
        Keep those whose score is at least this share (0 to 1) of the best score; None, or a best score that is not
        above zero, keeps all.
    minimum
        Never keep fewer than this for their scores (where there are as many).
    measure
        What the score is, in the words of a reader of the report.
    contradicting
        Sentences by name, of `contradicting_atlases`; these never vote unless nobody else is left.

    Returns
    -------
    Choice
        The same whatever the order of `scores`; at least one atlas is kept.

    Raises
    ------
    ValueError
        If there is no atlas, a score is not finite, or a setting is out of range.
    """
    _check(scores, count, share_of_best, minimum)
    order = sorted(scores, key=lambda name: (-scores[name], name))
    rejected = {name: why for name, why in (contradicting or {}).items() if name in scores}
    if len(rejected) == len(order):
        rejected = {}
    able = [name for name in order if name not in rejected]
    least = min(max(1, minimum), len(able))
    best = scores[able[0]]
    kept = able
    if share_of_best is not None and best > 0:
        kept = [name for name in able if scores[name] >= share_of_best * best]
        kept = able[: max(least, len(kept))]
        for name in able[len(kept) :]:
            rejected[name] = (
                f"Atlas {name} was left out: its {measure} is {scores[name]:.3g}, "
                f"less than {share_of_best:.0%} of the {best:.3g} of the best atlas."
            )
    if count is not None and len(kept) > max(count, least):
        for rank, name in enumerate(kept[max(count, least) :], start=max(count, least) + 1):
            rejected[name] = (
                f"Atlas {name} was left out: it is number {rank} by {measure} ({scores[name]:.3g}), "
                f"and the best {max(count, least)} are used."
            )
        kept = kept[: max(count, least)]
    return Choice(tuple(kept), dict(sorted(rejected.items())))


def _check(scores: Mapping[str, float], count: int | None, share_of_best: float | None, minimum: int) -> None:
    if not scores:
        raise ValueError("scores must name at least one atlas, got none")
    for name, score in scores.items():
        if not isfinite(score):
            raise ValueError(f"score of atlas {name} must be finite, got {score}")
    if count is not None and count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if share_of_best is not None and not 0 <= share_of_best <= 1:
        raise ValueError(f"share_of_best must lie in 0 to 1, got {share_of_best}")
    if minimum < 1:
        raise ValueError(f"minimum must be at least 1, got {minimum}")


def likeness_scores(given: Source | Evidence) -> list[float]:
    """Mean correlation, -1 to 1, of the windows of each atlas and the image near the structures of the atlas' labels.

    Cheap enough to follow an affine registration: that decides who is worth a deformable one. An atlas without
    structures, or none inside the image, has -1.
    """
    source = source_of(given)
    sums = torch.zeros((2, source.atlases), dtype=torch.float64, device=source.device)
    for window in source.windows(reach=_REACH):
        wide = source.evidence(window, reach=_REACH)
        there = (wide.labels[:, 1:] > _SEEN).any(1)
        if not there.any():
            continue
        place = place_of(wide)
        own: Any = (slice(None), *place.inner)
        near = (box_sum(there.float()[:, None], _REACH)[:, 0] > 0.5)[own] & wide.valid[own]
        pairs = comparable(source, None, place.window)
        alike = correlation(pairs.fixed, pairs.moved, pairs.inside, _REACH)[:, 0][own]
        sums[0] += (alike * near).flatten(1).sum(1, dtype=torch.float64)
        sums[1] += near.flatten(1).sum(1)
    return [total / count if count else -1.0 for total, count in sums.T.tolist()]


def template_scores(case: Tensor, atlases: Sequence[Tensor]) -> list[float]:
    """Negative distance of each atlas to the case, both given in one space.

    Parameters
    ----------
    case
        `(*shape)`: the image resampled onto the template (through its affine transform), or any vector that describes
        it, such as the velocity from the template.
    atlases
        The same of each atlas.

    Returns
    -------
    list of float
        `-sqrt(mean((a - c)^2))` after each has been given mean 0 and standard deviation 1.
    """
    own = _even(case)
    for index, atlas in enumerate(atlases):
        if atlas.shape != case.shape:
            raise ValueError(f"atlas {index} must have the shape of case {tuple(case.shape)}, got {tuple(atlas.shape)}")
    return [-float((_even(atlas) - own).square().mean().sqrt()) for atlas in atlases]


def _even(x: Tensor) -> Tensor:
    x = x.double()
    return (x - x.mean()) / x.std(correction=0).clamp(min=1e-9)


def agreements(given: Source | Evidence, label_map: Tensor) -> list[float]:
    """Mean over structures of the Dice of each atlas' likeliest labels with `label_map` `(*shape)`; nan without any."""
    source = source_of(given)
    labels = len(source.values)
    both, own = (torch.zeros((source.atlases, labels), dtype=torch.int64, device=source.device) for _ in range(2))
    result = torch.zeros(labels, dtype=torch.int64, device=source.device)
    for window in source.windows(reach=0):
        evidence = source.evidence(window)
        fused = _known(label_map[window].to(source.values).flatten(), source)
        result += torch.bincount(fused, minlength=labels)
        places = source.places_of(evidence.values)
        for atlas, indicators in enumerate(evidence.labels):
            said = places[smallest_winner(indicators)].flatten()
            own[atlas] += torch.bincount(said, minlength=labels)
            both[atlas] += torch.bincount(said[said == fused], minlength=labels)
    overlap = (2 * both.double() / (own + result))[:, 1:]  # nan where neither has the structure
    return overlap.nanmean(1).tolist()


def _known(labels: Tensor, source: Source) -> Tensor:
    """Place of each label in the list of the source; background for one that is not there."""
    place = source.places_of(labels).clamp_(max=len(source.values) - 1)
    return torch.where(source.values[place] == labels, place, 0)


def contradicting_atlases(given: Source | Evidence, names: Sequence[str], *, gross: float = GROSS) -> dict[str, str]:
    """Atlases whose propagated labels disagree grossly with all the others', with the sentence that says so.

    Measured is the median over the other atlases of the Dice with their labels (mean over structures). An atlas is
    rejected where that is below `gross` times the median of all atlases and five times farther from it than the
    median atlas is: most must agree with each other before one can be said to contradict. Fewer than three atlases
    contradict nobody.

    Parameters
    ----------
    given
        The warped atlases.
    names
        Their names, in the same order.
    gross
        Share, 0 to 1, of the typical overlap.

    Returns
    -------
    dict
        Sentence by name.
    """
    source = source_of(given)
    if len(names) != source.atlases:
        raise ValueError(f"names must be those of {source.atlases} atlases, got {len(names)}")
    if len(names) < 3:
        return {}
    overlap = overlaps_of(source)
    typical = float(overlap.median())
    limit = min(gross * typical, typical - _UNUSUAL * float((overlap - typical).abs().median()))
    found = {}
    for name, own in zip(names, overlap.tolist(), strict=True):
        if own < limit:
            found[name] = (
                f"Atlas {name} was left out: after registration its labels overlap those of the other atlases by "
                f"{own:.2f} (Dice, 1 is perfect), where {typical:.2f} is typical here; less than {limit:.2f} "
                "is taken for a failed registration or a wrong label map."
            )
    return found


def dice_by_count(
    given: Source | Evidence,
    truth: Tensor,
    order: Sequence[int],
    *,
    rule: str = "majority",
    counts: Iterable[int] | None = None,
    **settings: Any,
) -> dict[int, float]:
    """Dice, mean over structures, of one labelled case against the number of atlases, best first.

    Parameters
    ----------
    given
        All atlases, warped onto the case (which must not be among them).
    truth
        `(*shape)` its true labels.
    order
        Indices of the atlases, best first.
    rule, settings
        The rule of `FUSION_RULES` and its settings.
    counts
        Numbers of atlases; None: 1 to all.

    Returns
    -------
    dict
        Dice by number of atlases; structures neither in the result nor in the truth do not count.
    """
    source = source_of(given)
    if sorted(order) != list(range(source.atlases)):
        raise ValueError(f"order must hold each of {source.atlases} atlases once, got {list(order)}")
    wanted = list(counts if counts is not None else range(1, len(order) + 1))
    for count in wanted:
        if not 1 <= count <= len(order):
            raise ValueError(f"counts must lie in 1 to {len(order)}, got {count}")
    kind = smallest_type(source.values)
    maps = {count: torch.zeros(source.shape, dtype=kind, device=source.device) for count in wanted}
    some = {count: torch.tensor(list(order[:count])) for count in wanted}
    sources = [source.of_atlases(own.tolist()) for own in some.values()]  # kept: what they know is found once
    for window in source.windows():
        evidence = source.evidence(window, reach=int(settings.get("search", 1)))
        for count, label_map in maps.items():
            label_map[window] = fuse(rule, evidence.of_atlases(some[count]), **settings).label_map.to(kind)
    del sources
    overlaps = {count: dice(label_map, truth.to(source.device), source.values) for count, label_map in maps.items()}
    return {count: mean_of(overlap) for count, overlap in overlaps.items()}


def mean_of(overlap: Mapping[int, float]) -> float:
    """Mean of those that are known; nan where none is."""
    known = [value for value in overlap.values() if isfinite(value)]
    return sum(known) / len(known) if known else float("nan")
