"""Folds of a cross-validation: hand-labelled and fused cases each spread evenly over them."""

from collections.abc import Sequence
from dataclasses import dataclass

from covoxel.external.nnunet.dataset import DatasetCase


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
    raise NotImplementedError
