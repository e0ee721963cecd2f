"""Training of the network that corrects fused labels; can be killed at any time and taken up again."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor, nn

from covoxel.losses.base import LABEL_LOSSES
from covoxel.training.correction.apply import Logits, answer
from covoxel.training.correction.cases import CorrectionCase, check_cases, fingerprint
from covoxel.training.correction.samples import Sampler, Samples, fused_and_true
from covoxel.training.correction.settings import CorrectionSettings
from covoxel.training.progress import Progress, TrainingDivergedError
from covoxel.training.provenance import provenance
from covoxel.training.registration.machine import Machine, Precision, make_fabric
from covoxel.training.registration.objective import full_precision
from covoxel.training.registration.schedule import rate_at
from covoxel.training.registration.state import Identity, State, load, save
from covoxel.training.seeds import generator, seed_of
from covoxel.training.tally import add, mean

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_PARTS = ("loss", "soft_dice", "cross_entropy", "learning_rate")


@dataclass(frozen=True, eq=False)
class TrainedCorrection:
    """What training leaves.

    Parameters
    ----------
    network
        In evaluation mode, on the CPU.
    curve
        A row every few steps: `step`, and of the steps since the last row the mean `loss`, its parts `soft_dice` and
        `cross_entropy`, and `learning_rate`.
    notes
        What is worth saying of it, a sentence each.
    """

    network: nn.Module
    curve: pd.DataFrame
    notes: tuple[str, ...]


def train_correction(
    network: nn.Module,
    cases: Sequence[CorrectionCase],
    settings: CorrectionSettings | None = None,
    *,
    device: str = "cpu",
    precision: Precision = "32-true",
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 60.0,
    progress: Progress | None = None,
) -> TrainedCorrection:
    """Train a network to say the true labels of an image from the image and its fused probabilities.

    Parameters
    ----------
    network
        From `(batch, label, *shape)`, the image and the fused probabilities of all structures, to logits
        `(batch, label, *shape)`; changed in place. The images of a step go through it one by one.
    cases
        Labelled ones, each fused without its own labels.
    settings
        See `CorrectionSettings`.
    device, precision
        Where and how to compute.
    checkpoint
        File of the state, written when `checkpoint_seconds` have passed and at the end. If it exists, training goes on
        from there, and ends with the same bits (on a CPU, with the same number of threads) as if it had not been
        stopped.
    progress
        Told after every step.

    Raises
    ------
    ValueError
        If the cases do not belong together, fusion found nothing in any, or the checkpoint is of another training.
    TrainingDivergedError
        If a loss or gradient is not finite; names step and case. The last checkpoint stays.

    References
    ----------
    Wang et al., A learning-based wrapper method to correct systematic errors in automatic image segmentation:
    consistently improved performance in hippocampus, cortex and brain segmentation, NeuroImage 2011 (with AdaBoost).
    """
    if checkpoint_seconds < 0:
        raise ValueError(f"checkpoint_seconds must not be negative, got {checkpoint_seconds}")
    fabric = make_fabric(torch.device(device), precision)
    with torch.random.fork_rng([fabric.device] if fabric.device.type == "cuda" else []):
        training = _Training(network, cases, settings or CorrectionSettings(), fabric, checkpoint)
        saved = time.monotonic()
        while training.state.done < training.settings.steps:
            loss = training.step()
            if time.monotonic() - saved >= checkpoint_seconds or training.state.done == training.settings.steps:
                training.save()
                saved = time.monotonic()
            if progress is not None:
                progress(training.state.done, training.settings.steps, loss)
    state = training.state
    curve = pd.DataFrame(state.curve, columns=["step", *_PARTS])
    return TrainedCorrection(training.machine.average.cpu().eval(), curve, tuple(state.notes))


def objective(settings: CorrectionSettings, network: Logits, samples: Samples) -> dict[str, Tensor]:
    """Weighted parts of the loss of each sample, `(batch,)` each."""
    parts: dict[str, list[Tensor]] = {"soft_dice": [], "cross_entropy": []}
    for stack in samples.stacks:
        fused, truth = fused_and_true(stack)
        said = answer(network, stack.image, fused)
        with full_precision(stack.image):
            probabilities = said.softmax(1)
            for name, values in parts.items():
                values.append(LABEL_LOSSES[name](probabilities, truth, mask=stack.mask)[0])
    losses = {name: torch.stack(values) for name, values in parts.items()}
    return losses | {"cross_entropy": settings.cross_entropy * losses["cross_entropy"]}


class _Training:
    """State of a training, and its steps."""

    def __init__(
        self,
        network: nn.Module,
        cases: Sequence[CorrectionCase],
        settings: CorrectionSettings,
        fabric: Fabric,
        checkpoint: Path | None,
    ) -> None:
        values = check_cases(cases)
        self.settings, self.checkpoint = settings, checkpoint
        self.sampler = Sampler(cases, settings)
        self.machine = Machine(network, lambda net, batch: objective(settings, net, batch), settings, fabric)
        self.state = State()
        if checkpoint is not None:
            self.identity = Identity(settings, fingerprint(cases), values, ())
            self.provenance = provenance(network)
            if Path(checkpoint).exists():
                self.state = load(Path(checkpoint), self.identity, self.provenance, self.machine)

    def step(self) -> float:
        """Train on the next batch; its mean loss."""
        settings, machine, done = self.settings, self.machine, self.state.done
        chosen = self.sampler.places(generator(settings.seed, "cases", done))
        parts = machine.fitting(lambda: self._gradients(chosen))
        for note in machine.notes:
            self.state.note(note)
        rate = rate_at(done, settings.steps, settings)
        machine.descend(rate, done, lambda what, norm: self._diverged(what, norm, chosen))
        self.state.done += 1
        return self._tally(parts, rate)

    def _gradients(self, chosen: Sequence[int]) -> dict[str, list[float]]:
        """Parts of the loss of each sample, after their gradient was left in the network."""
        settings, done = self.settings, self.state.done
        torch.manual_seed(seed_of(settings.seed, "network", done))
        self.machine.network.train()
        source = generator(settings.seed, "change", done)
        samples = Samples(tuple(self.sampler.sample(place, source, self.machine.device) for place in chosen))
        result: dict[str, list[float]] = {}

        def watch(rows: slice, parts: dict[str, Tensor]) -> None:
            for name, values in parts.items():
                for place, number in zip(chosen[rows], values.tolist(), strict=True):
                    if not math.isfinite(number):
                        self._diverged(name, number, [place])
                    result.setdefault(name, []).append(number)

        self.machine.gradients(samples, watch)
        return result

    def _diverged(self, what: str, number: float, chosen: Sequence[int]) -> None:
        names = ", ".join(self.sampler.name(place) for place in chosen)
        raise TrainingDivergedError(
            f"training diverged at step {self.state.done + 1} of {self.settings.steps}, case {names}: {what} is "
            f"{number}; the last checkpoint is kept, and a smaller learning_rate may help"
        )

    def _tally(self, parts: dict[str, list[float]], rate: float) -> float:
        """Add a step to the learning curve; its mean loss."""
        state = self.state
        means = {name: math.fsum(values) / len(values) for name, values in parts.items()}
        loss = math.fsum(means.values())
        for name, value in {**means, "loss": loss, "learning_rate": rate}.items():
            add(state.sums, name, [value])
        if state.done % self.settings.check_every == 0 or state.done == self.settings.steps:
            state.curve.append({"step": state.done, **{name: mean(state.sums, name) for name in _PARTS}})
            state.sums = {}
        return loss

    def save(self) -> None:
        """Write the state to the checkpoint, if there is to be one."""
        if self.checkpoint is not None:
            save(Path(self.checkpoint), self.identity, self.provenance, self.state, self.machine)
