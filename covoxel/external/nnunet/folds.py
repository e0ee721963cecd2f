"""Folds of a cross-validation: hand-labelled and fused cases each spread evenly over them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from covoxel.external.nnunet.dataset import DatasetCase
from covoxel.external.nnunet.errors import NnunetError
from covoxel.training.seeds import generator


@dataclass(frozen=True)
class Fold:
    """One fold.

    Parameters
    ----------
    name
        Its number, or `all`, which trains on every case and validates on none.
    training, validation
        Ids of cases.
    """

    name: int | str
    training: tuple[str, ...]
    validation: tuple[str, ...]


def folds_of(cases: Sequence[DatasetCase], count: int, seed: int = 0) -> tuple[Fold, ...]:
    """`count` folds, drawn by `seed`; one fold is `all`. Each case is validated on by exactly one of several folds.

    Raises
    ------
    NnunetError
        If there is no labelled case, or more folds than those.
    """
    labelled = [case for case in cases if case.label is not None]
    if not 1 <= count <= len(labelled):
        raise NnunetError(f"folds must be from 1 to the number of labelled cases, {len(labelled)}, got {count}")
    ids = tuple(sorted(case.id for case in labelled))
    if count == 1:
        return (Fold("all", ids, ()),)
    turn = _shuffled([case.id for case in labelled if not case.is_fused], seed)
    turn += _shuffled([case.id for case in labelled if case.is_fused], seed)
    held = [frozenset(turn[k::count]) for k in range(count)]
    return tuple(
        Fold(k, tuple(case for case in ids if case not in mine), tuple(sorted(mine))) for k, mine in enumerate(held)
    )


def _shuffled(ids: Sequence[str], seed: int) -> list[str]:
    order = torch.randperm(len(ids), generator=generator("folds", seed))
    return [sorted(ids)[place] for place in order.tolist()]
