"""Training of one fold by weighted labels, with a checkpoint from which it goes on to the same bits."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from covoxel.external.nnunet.model import FoldModel
from covoxel.external.nnunet.planning import Plan
from covoxel.external.nnunet.profiles import Precision
from covoxel.external.nnunet.weighting import Weighting


def train_fold(
    plan: Plan,
    fold: int | str,
    training_ids: Sequence[str],
    validation_ids: Sequence[str] = (),
    *,
    weighting: Weighting | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    precision: Precision | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> FoldModel:
    """Train one fold.

    Parameters
    ----------
    plan
        Of `plan`.
    fold
        Its number, or `all`.
    training_ids
        Cases that teach; those that could not be preprocessed are left out.
    validation_ids
        Cases that do not; they are only remembered in the model.
    weighting
        How much fused labels count; None: `Weighting()`.
    seed
        Of everything that is drawn; the same one gives the same bits on a CPU with as many threads.
    device
        Where to train.
    precision
        As of `Profile`, which is asked if it is None.
    checkpoint
        File for the state of the training; one that is there of the same training is gone on from, and it stays.
        None: none is kept.
    progress
        Called after each step with the steps done, the steps in all, and the loss.

    Raises
    ------
    NnunetError
        If there is no case to train on, a case is in no plan or both teaches and does not, or the checkpoint is of
        another training.
    TrainingDivergedError
        If the loss is not finite.
    WorkerLostError
        If a process that prepares batches died.
    MissingLibraryError
        If nnU-Net is not installed.
    """
    raise NotImplementedError
