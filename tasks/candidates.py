"""Candidates: the atlases that vote on a case, and the fusion rules that are tried on it, each with its options."""

from collections.abc import Mapping, Sequence
from typing import Any

from covoxel.fusion.atlas_choice import Choice, choose_atlases, contradicting_atlases
from covoxel.fusion.source import Source
from tasks.settings import DATA_PARAMETERS, SELECT, AtlasSettings, FuseSettings


def voters(
    source: Source, names: Sequence[str], settings: AtlasSettings, learnt: Mapping[str, float]
) -> tuple[Source, Choice]:
    """The atlases that vote, in the order of their ids, and the choice that led to it.

    Parameters
    ----------
    source
        All atlases that were brought onto the case.
    names
        Their ids, in order.
    settings
        How many vote at most, and by what they are chosen; what registration could decide is decided already.
    learnt
        Raw data parameter of each atlas; empty if none were learnt.
    """
    by_weight = settings.by == "weight" and bool(learnt)
    choice = choose_atlases(
        {name: learnt[name] if by_weight else 0.0 for name in names},
        count=settings.count if by_weight else None,
        minimum=1,
        measure="learnt weight",
        contradicting=contradicting_atlases(source, names),
    )
    kept = tuple(sorted(choice.kept))
    if len(kept) == len(names):
        return source, choice
    return source.of_atlases([names.index(name) for name in kept]), Choice(kept, choice.rejected)


def rules_of(settings: FuseSettings, learnt: Mapping[str, float], atlases: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Options by name of rule: of the one rule that is asked for, or of the candidates of `select`.

    Parameters
    ----------
    settings
        What is asked for.
    learnt
        Raw data parameter of each atlas; empty if none were learnt. `data_parameters` is then no candidate, and if it
        is all that is asked for, trusts all atlases alike.
    atlases
        Ids in the order of the evidence.
    """
    if settings.rule != SELECT:
        return {settings.rule: dict(settings.options) | _learnt(settings.rule, learnt, atlases)}
    names = [name for name in settings.candidates if name != DATA_PARAMETERS or learnt]
    return {name: _learnt(name, learnt, atlases) for name in names}


def _learnt(rule: str, learnt: Mapping[str, float], atlases: Sequence[str]) -> dict[str, Any]:
    if rule != DATA_PARAMETERS or not learnt:
        return {}
    return {"parameters": [learnt[atlas] for atlas in atlases]}
