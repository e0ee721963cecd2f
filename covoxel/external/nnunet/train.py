"""Training of one fold by weighted labels, with a checkpoint from which it goes on to the same bits."""

import copy
import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from covoxel.external.nnunet.errors import NnunetError
from covoxel.external.nnunet.library import kept_apart, require
from covoxel.external.nnunet.memory import training_bytes
from covoxel.external.nnunet.model import FoldModel
from covoxel.external.nnunet.planning import Plan
from covoxel.external.nnunet.precision import precision_on
from covoxel.external.nnunet.profiles import Precision
from covoxel.external.nnunet.weighting import Weighting
from covoxel.training.averaging import follow, kept_after
from covoxel.training.checkpoint import load_checkpoint, save_checkpoint
from covoxel.training.progress import TrainingDivergedError
from covoxel.training.seeds import seed_of

if TYPE_CHECKING:
    from covoxel.external.nnunet.sampling import Batch, Teacher

log = logging.getLogger(__name__)

Tell = Callable[[int, int, float], None]


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
    progress: Tell | None = None,
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
    require()
    device, weighting = torch.device(device), weighting or Weighting()
    kind = precision_on(device, precision or plan.profile.precision)
    teachers = _teachers(plan, training_ids, validation_ids)
    about = {
        "plan": plan.fingerprint,
        "profile": _lasting(plan),
        "fold": str(fold),
        "teachers": [[each.id, plan.keys.get(each.id), each.weight] for each in teachers],
        "weighting": asdict(weighting),
        "seed": seed,
        "precision": kind,
    }
    training = _Training(plan, teachers, weighting, seed, device, kind)
    if checkpoint is not None and Path(checkpoint).exists():
        training.resume(Path(checkpoint), about)
    training.run(None if checkpoint is None else Path(checkpoint), about, progress)
    return FoldModel(
        fold,
        training.weights(),
        tuple(each.id for each in teachers),
        tuple(sorted(validation_ids)),
        tuple(training.losses),
        training.trainer.mirroring,
    )


def _teachers(plan: Plan, training_ids: Sequence[str], validation_ids: Sequence[str]) -> list["Teacher"]:
    from covoxel.external.nnunet.sampling import Teacher

    known, all_ids = plan.cases, {case.id for case in plan.dataset.training} | set(plan.failed)
    unknown = sorted({*training_ids, *validation_ids} - all_ids)
    if unknown:
        raise NnunetError(f"case {unknown[0]} must be of the plan, and have labels")
    both = sorted(set(training_ids) & set(validation_ids))
    if both:
        raise NnunetError(f"case {both[0]} must not both teach and be validated on")
    found = [known[case] for case in sorted(set(training_ids)) if case in known]
    if not found:
        why = next(iter(plan.failed.values()), "none was named")
        raise NnunetError(f"a training must have a case to train on: {why}")
    return [Teacher(case.id, case.is_fused, case.weight) for case in found]


def _lasting(plan: Plan) -> dict[str, Any]:
    """What of the profile decides which bits come out."""
    passing = ("name", "workers", "precision", "save_every")
    return {name: value for name, value in asdict(plan.profile).items() if name not in passing}


class _Training:
    """A training and its state."""

    def __init__(
        self,
        plan: Plan,
        teachers: Sequence["Teacher"],
        weighting: Weighting,
        seed: int,
        device: torch.device,
        precision: str,
    ) -> None:
        from covoxel.external.nnunet.sampling import Batches, Recipe
        from covoxel.external.nnunet.trainer import WeightedTrainer

        self.plan, self.precision, self.device = plan, precision, device
        with kept_apart():
            self.trainer = WeightedTrainer(plan, device, precision, seed_of("nnunet weights", seed))
        recipe = Recipe(
            plan.folder,
            teachers,
            weighting,
            plan.plans,
            plan.dataset_json,
            plan.configuration,
            self.trainer.drawn,
            self.trainer.transforms,
            plan.profile.foreground,
            seed,
        )
        self.batches = Batches(recipe)
        self.average = copy.deepcopy(self.trainer.network) if plan.profile.average else None
        self.done, self.sum = 0, 0.0
        self.losses: list[float] = []

    def weights(self) -> dict[str, torch.Tensor]:
        """Of the model: the running average, if there is one."""
        network = self.trainer.network if self.average is None else self.average
        return {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}

    def run(self, checkpoint: Path | None, about: dict[str, Any], progress: Tell | None) -> None:
        """Train to the end."""
        profile = self.plan.profile
        every = profile.iterations * profile.save_every
        for batch in self._from_here():
            if self.done % profile.iterations == 0:
                self.trainer.begin_epoch(self.done // profile.iterations)
            loss = self.trainer.train_step(batch)
            if not math.isfinite(loss):
                kept = "nothing is kept" if checkpoint is None else f"the last sound state is in {checkpoint}"
                raise TrainingDivergedError(f"the loss of step {self.done + 1} is {loss}; {kept}")
            if self.average is not None:
                follow(self.average, self.trainer.network, kept_after(self.done, profile.average))
            self.done += 1
            self.sum += loss
            if self.done % profile.iterations == 0:
                self.losses.append(self.sum / profile.iterations)
                self.sum = 0.0
            if checkpoint is not None and (self.done % every == 0 or self.done == profile.steps):
                self.save(checkpoint, about)
            if progress is not None:
                progress(self.done, profile.steps, loss)

    def save(self, path: Path, about: dict[str, Any]) -> None:
        """The whole state."""
        trainer = self.trainer
        tensors = {"network": trainer.network.state_dict(), "optimiser": trainer.optimizer.state_dict()}
        if self.average is not None:
            tensors["average"] = self.average.state_dict()
        if trainer.grad_scaler is not None:
            tensors["scaler"] = trainer.grad_scaler.state_dict()
        save_checkpoint(path, {"of": about, "done": self.done, "losses": self.losses}, tensors)

    def resume(self, path: Path, about: dict[str, Any]) -> None:
        """Go on from a checkpoint of the same training."""
        found, tensors = load_checkpoint(path)
        of = found.get("of")
        if of != _plain(about):
            what = next((name for name in about if not of or of.get(name) != _plain(about)[name]), "kind")
            raise NnunetError(f"{path} is a checkpoint of another training: its {what} differs")
        self.done, self.losses = int(found["done"]), list(found["losses"])
        self.trainer.network.load_state_dict(tensors["network"])
        self.trainer.optimizer.load_state_dict(tensors["optimiser"])
        if self.average is not None:
            self.average.load_state_dict(tensors["average"])
        if self.trainer.grad_scaler is not None:
            self.trainer.grad_scaler.load_state_dict(tensors["scaler"])
        log.info("training goes on from step %d of %d", self.done, self.plan.profile.steps)

    def _from_here(self) -> Iterator["Batch"]:
        workers, steps = self.plan.profile.workers, range(self.done, self.plan.profile.steps)
        if not workers:
            yield from (self.batches[step] for step in steps)
            return
        from covoxel.external.nnunet.workers import batches_ahead

        needs = training_bytes(self.plan, self.precision).total
        yield from batches_ahead(self.batches, steps, workers, needs)


def _plain(about: dict[str, Any]) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(about))
