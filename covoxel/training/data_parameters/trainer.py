"""Training of a segmentation network and the data parameters of its cohort; can be stopped and taken up at any step."""

import copy
import hashlib
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from covoxel.memory_errors import is_out_of_memory
from covoxel.training.augmentation import draw
from covoxel.training.averaging import follow, kept_after
from covoxel.training.checkpoint import load_checkpoint, save_checkpoint
from covoxel.training.data_parameters.cases import PairedCase, PairedCases
from covoxel.training.data_parameters.losses import (
    data_parameter_loss,
    foreground_shares,
    label_weights,
    relative_to_overlap,
    risk,
    soft_cross_entropy,
    spatial_cross_entropy,
)
from covoxel.training.data_parameters.parameters import DataParameters
from covoxel.training.data_parameters.settings import TrainingSettings
from covoxel.training.data_parameters.survey import Survey, standardised, survey
from covoxel.training.progress import Progress, TrainingDivergedError
from covoxel.training.seeds import generator, seed_of

_LEAST = 0.1  # of the mean share of foreground: `least` of `relative_to_overlap`

_CURVE = (
    "epoch",
    "step",
    "learning_rate",
    "loss",
    "pair_cross_entropy",
    "risk",
    "parameter_mean",
    "parameter_sd",
)


@dataclass(frozen=True, eq=False)
class Trained:
    """What training leaves.

    Parameters
    ----------
    network
        In evaluation mode; the running average, where there is one.
    parameters
        The learnt data parameters.
    curve
        One row an epoch: `epoch`, `step`, `learning_rate`, `loss` (of the network), and over the pairs that the data
        parameters learnt from, `pair_cross_entropy`, `risk`, then `parameter_mean` and `parameter_sd`.
    """

    network: nn.Module
    parameters: DataParameters
    curve: pd.DataFrame

    @property
    def weights(self) -> pd.DataFrame:
        """One row a pair: `case`, `atlas`, `parameter`, `confidence`."""
        return self.parameters.table()


def train(
    network: nn.Module,
    cases: PairedCases,
    *,
    labels: int,
    settings: TrainingSettings | None = None,
    device: str = "cpu",
    checkpoint: Path | None = None,
    checkpoint_steps: int = 50,
    progress: Progress | None = None,
) -> Trained:
    """Train `network` on propagated labels and learn how far each of them can be trusted.

    Parameters
    ----------
    network
        From `(batch, 1, *shape)` to logits `(batch, labels, *shape)`; changed in place. Images of a step go through
        it one by one, so that they need not have one size; it must not depend on the others of its batch.
    cases
        The cohort; read anew whenever a case is due.
    labels
        Number of labels, background included.
    settings
        See `TrainingSettings`.
    device
        Where to compute.
    checkpoint
        File of the state, written every `checkpoint_steps` steps and at the end. If it exists, training goes on from
        there, and ends with the same bits (on a CPU, with the same number of threads) as if it had not been stopped.
    checkpoint_steps
        Steps between checkpoints.
    progress
        Told after every step.

    Returns
    -------
    Trained

    Raises
    ------
    ValueError
        If the cohort is not fit to train on, or the checkpoint belongs to another training.
    TrainingDivergedError
        If a loss or gradient is not finite. The last checkpoint stays.

    Notes
    -----
    Every step draws from generators that its own number seeds, so nothing of theirs needs to be kept.

    References
    ----------
    Weihsbach et al., DeepSTAPLE: learning to predict multimodal registration quality for unsupervised domain
    adaptation, WBIR 2022.
    """
    if checkpoint_steps < 1:
        raise ValueError(f"checkpoint_steps must be 1 or more, got {checkpoint_steps}")
    about = survey(cases, labels)
    devices = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices):
        training = _Training(network, cases, about, labels, settings or TrainingSettings(), device)
        if checkpoint is not None and Path(checkpoint).exists():
            training.load(Path(checkpoint))
        while training.done < training.steps:
            loss = training.step()
            last = training.done == training.steps
            if checkpoint is not None and (last or training.done % checkpoint_steps == 0):
                training.save(Path(checkpoint))
            if progress is not None:
                progress(training.done, training.steps, loss)
    return Trained(training.judge.eval(), training.parameters, pd.DataFrame(training.curve, columns=list(_CURVE)))


class _Training:
    """State of a training, and its steps."""

    def __init__(
        self,
        network: nn.Module,
        cases: PairedCases,
        about: Survey,
        labels: int,
        settings: TrainingSettings,
        device: str,
    ) -> None:
        self.cases, self.labels, self.settings, self.device = cases, labels, settings, torch.device(device)
        self.network = network.to(self.device)
        self.parameters = DataParameters(about.pairs).to(self.device)
        averaged = settings.mode == "out_of_line" and settings.average > 0
        self.judge = copy.deepcopy(self.network) if averaged else self.network
        self.factors = about.factors(fixed=settings.weighting == "log").to(self.device)
        weight = about.class_weight(settings.class_power)
        self.unit = about.unit(weight)
        self.class_weight = weight.to(self.device)
        relative = settings.weighting == "overlap"  # gradients of the parameters have no unit
        self.scale = self.unit if relative and settings.mode == "inline" else 1.0
        damping = settings.damping * (1.0 if relative else self.unit)
        self.network_optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.parameter_optimiser = torch.optim.SparseAdam(
            list(self.parameters.parameters()), lr=settings.parameter_rate, eps=max(1e-8, damping)
        )
        self.steps_per_epoch = -(-len(cases) // settings.batch)
        self.steps = self.steps_per_epoch * settings.epochs
        self.done = 0
        self.sums: dict[str, float] = {}
        self.curve: list[dict[str, float]] = []

    # One step

    def step(self) -> float:
        """Train on the next batch; the network's mean loss."""
        epoch, place = divmod(self.done, self.steps_per_epoch)
        order = torch.randperm(len(self.cases), generator=self._generator("order", epoch)).tolist()
        batch = [self._drawn(i, epoch) for i in order[place * self.settings.batch :][: self.settings.batch]]
        torch.manual_seed(seed_of(self.settings.seed, "network", self.done))
        self.network_optimiser.param_groups[0]["lr"] = self.settings.learning_rate * self.settings.decay**epoch
        learning = epoch >= self.settings.warm_up
        inline = learning and self.settings.mode == "inline"
        loss = self._network_step(batch, inline)
        if learning and not inline:
            self._parameter_step(batch)
        self.done += 1
        self._tally(loss=loss)
        if place == self.steps_per_epoch - 1:
            self._close_epoch(epoch)
        return loss

    def _drawn(self, index: int, epoch: int) -> tuple[PairedCase, torch.Generator]:
        """The case at `index`, with the pairs and the generator of this epoch."""
        case, source = self.cases[index], self._generator("case", epoch, index)
        most, atlases = self.settings.pairs, len(case.atlas_ids)
        if most is not None and most < atlases:
            kept = sorted(torch.randperm(atlases, generator=source)[:most].tolist())
            names = tuple(case.atlas_ids[k] for k in kept)
            case = replace(case, label_maps=case.label_maps[kept], valid=case.valid[kept], atlas_ids=names)
        here = {name: getattr(case, name).to(self.device) for name in ("fixed", "label_maps", "valid")}
        consensus = None if case.consensus is None else case.consensus.to(self.device)
        return replace(case, **here | {"fixed": standardised(here["fixed"]), "consensus": consensus}), source

    def _network_step(self, batch: list[tuple[PairedCase, torch.Generator]], inline: bool) -> float:
        """Step (i): the network learns, from pairs that all weigh the same; or, inline, both do, from one loss."""
        self.network.train()
        self.network_optimiser.zero_grad()
        self.parameter_optimiser.zero_grad()
        pairs, total = sum(len(case.atlas_ids) for case, _ in batch), 0.0
        for case, source in batch:
            change = draw(tuple(case.fixed.shape), self.settings.augmentation, source, self.device)
            log_probabilities = self._log_probabilities(self.network, change.image(case.fixed))
            weights, reward = torch.ones(len(case.atlas_ids), device=self.device), torch.zeros((), device=self.device)
            if inline:
                confidence = self.parameters(self.parameters.places(case.id, case.atlas_ids))
                factors, share = self._units(log_probabilities.detach(), case)
                weights, reward = confidence * factors, share * confidence.sum()
            targets = change.labels(self._taught(case, weights, inline))
            loss = soft_cross_entropy(log_probabilities, targets, self.class_weight)
            total += self._finite(loss.detach(), case)
            (loss - reward).backward()  # type: ignore[no-untyped-call]
        self._descend(pairs / self.scale if inline else pairs, batch)
        if inline:
            self.parameter_optimiser.step()  # type: ignore[no-untyped-call]
        return total / pairs

    def _taught(self, case: PairedCase, weights: Tensor, inline: bool) -> Tensor:
        """Labels `(label, *shape)` the network learns from: the consensus if there is one, else those of all pairs."""
        if case.consensus is None or inline:
            return label_weights(case.label_maps, case.valid, weights, self.labels)
        return label_weights(case.consensus[None], case.valid.any(0)[None], weights.sum()[None], self.labels)

    def _descend(self, pairs: float, batch: list[tuple[PairedCase, torch.Generator]]) -> None:
        for weight in self.network.parameters():
            if weight.grad is not None:
                weight.grad /= pairs
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self._finite(norm, *(case for case, _ in batch))
        self.network_optimiser.step()
        if self.judge is not self.network:
            follow(self.judge, self.network, kept_after(self.done, self.settings.average))

    def _parameter_step(self, batch: list[tuple[PairedCase, torch.Generator]]) -> None:
        """Step (ii): through the network as it now is, which stays as it is, the data parameters alone learn."""
        self.judge.eval()
        self.parameter_optimiser.zero_grad()
        for case, _ in batch:
            with torch.no_grad():
                log_probabilities = self._log_probabilities(self.judge, case.fixed)
                cost = spatial_cross_entropy(log_probabilities, case.label_maps, case.valid, self.class_weight)
                factors, share = self._units(log_probabilities, case)
            confidence = self.parameters(self.parameters.places(case.id, case.atlas_ids))
            loss = data_parameter_loss(cost * factors, confidence) - share * confidence.sum()
            self._finite(loss.detach(), case)
            loss.backward()
            self._tally(pair_cross_entropy=float(cost.mean()))
        self.parameter_optimiser.step()  # type: ignore[no-untyped-call]

    def _units(self, log_probabilities: Tensor, case: PairedCase) -> tuple[Tensor, Tensor]:
        """Factors of the pairs' cross-entropies, and the risk to set against them."""
        predicted = risk(log_probabilities, case.valid, self.class_weight)
        self._tally(risk=float(predicted))
        if self.settings.weighting == "overlap":
            foreground = foreground_shares(case.label_maps, case.valid, self.class_weight)
            factors, share = relative_to_overlap(foreground, predicted, _LEAST * self.unit)
        else:
            factors, share = self.factors[self.parameters.places(case.id, case.atlas_ids)], predicted
        return factors, share if self.settings.risk else torch.zeros_like(share)

    def _log_probabilities(self, network: nn.Module, image: Tensor) -> Tensor:
        logits: Tensor = network(image[None, None])
        return logits[0].float().log_softmax(0)

    def _finite(self, value: Tensor, *cases: PairedCase) -> float:
        number = float(value)
        if not math.isfinite(number):
            names = ", ".join(case.id for case in cases)
            raise TrainingDivergedError(
                f"training diverged at step {self.done + 1} of {self.steps}, case {names}: its loss or gradient is "
                f"{number}; the last checkpoint is kept, and a smaller learning_rate may help"
            )
        return number

    def _generator(self, *key: str | int) -> torch.Generator:
        return generator(self.settings.seed, *key)

    # The learning curve

    def _tally(self, **values: float) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.sums[f"{name} count"] = self.sums.get(f"{name} count", 0.0) + 1

    def _close_epoch(self, epoch: int) -> None:
        names = ("loss", "pair_cross_entropy", "risk")
        means = {n: self.sums[n] / self.sums[f"{n} count"] if n in self.sums else math.nan for n in names}
        raw = self.parameters.embedding.weight.detach().double()
        rate = self.network_optimiser.param_groups[0]["lr"]
        self.curve.append(
            {"epoch": epoch + 1, "step": self.done, "learning_rate": rate, **means}
            | {"parameter_mean": float(raw.mean()), "parameter_sd": float(raw.std(correction=0))}
        )
        self.sums = {}

    # Checkpoints

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to be of this training."""
        pairs = hashlib.sha256("\n".join("\t".join(pair) for pair in self.parameters.pairs).encode()).hexdigest()
        return {"settings": asdict(self.settings), "pairs": pairs, "labels": self.labels, "unit": self.unit}

    def save(self, path: Path) -> None:
        """Write the state to `path`."""
        about = self._identity() | {"done": self.done, "sums": self.sums, "curve": self.curve}
        tensors = {name: part.state_dict() for name, part in self._parts().items()}
        save_checkpoint(path, about, tensors)

    def load(self, path: Path) -> None:
        """Take the state from `path`."""
        about, tensors = load_checkpoint(path)
        for name, mine in self._identity().items():
            if about.get(name) != mine:
                raise ValueError(f"{path} is of another training: its {name} are {about.get(name)}, here {mine}")
        try:
            for name, part in self._parts().items():
                part.load_state_dict(tensors[name])
        except (KeyError, RuntimeError, ValueError) as error:
            if is_out_of_memory(error):
                raise
            raise ValueError(f"{path} is of another training: {error}") from error
        self.done, self.sums, self.curve = about["done"], about["sums"], about["curve"]

    def _parts(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "judge": self.judge,
            "parameters": self.parameters,
            "network_optimiser": self.network_optimiser,
            "parameter_optimiser": self.parameter_optimiser,
        }
