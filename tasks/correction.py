"""Correction: the network of `models/correction` and what it makes of a fused result."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from covoxel.fusion.base import smallest_type
from covoxel.fusion.candidates import CONSENSUS, CONSENSUS_OF, FusedImage, Rules, fused_parts, painted
from covoxel.fusion.source import Source
from covoxel.io.scratch import Scratch
from covoxel.manifest import Record, code_sha256
from covoxel.preprocessing import LabelRestorer
from covoxel.spatial import Grid, Image
from covoxel.training.correction import MIN_CASES
from covoxel.training.correction.apply import Corrected
from nets.segmentation import SEGMENTATION_NETS
from tasks.job import COHORT, Artifact
from tasks.settings import Precision
from tasks.study import Study
from tasks.weights import load_weights

MODEL = "correction"
"""Name of the model's folder."""
WEIGHTS, SETTINGS, CURVE = "network.safetensors", "settings.json", "curve.tsv"
NETWORK = "unet"
CODE = ("covoxel.training.correction", "nets.blocks", "nets.segmentation.unet", "tasks.correction")
"""What decides, beside the weights, what becomes of a fused result."""

_NARROW, _FEW_LABELS, _LEVELS = 8, 8, 3


@dataclass(frozen=True)
class Correction:
    """A correction that helps.

    Parameters
    ----------
    weights, settings
        Its files.
    gain
        Dice that atlases not seen gained by it.
    """

    weights: Artifact
    settings: Artifact
    gain: float

    def hashes(self) -> dict[str, str]:
        """SHA-256 of what is read, by name."""
        return {"correction": self.weights.sha256, "correction_settings": self.settings.sha256}

    def known(self) -> dict[str, Any]:
        """What else a result depends on."""
        return {"gain": self.gain, "code": code_sha256(*CODE)}

    def quality(self, predicted: float) -> float:
        """Predicted Dice of a corrected result, from that of the fused one."""
        return min(1.0, max(0.0, predicted + self.gain))

    def corrected(
        self, fixed: Image, native: Grid, source: Source, rules: Rules, rule: str, scratch: Path
    ) -> tuple[FusedImage, Tensor]:
        """What becomes of the result of a rule, and the label values of its probabilities: those of all atlases.

        Probabilities of a part are in memory; those of the whole image are in scratch.

        Parameters
        ----------
        fixed
            The preprocessed image, on the device where to compute.
        native
            Grid of the image as it came.
        source
            What was fused.
        rules, rule
            Settings by name of rule, and which result it is.
        scratch
            Folder; eight bytes a voxel and label are written there for the time.
        """
        network, values = _loaded(self.weights, self.settings, str(fixed.data.device))
        kind = smallest_type(values)
        with Scratch(scratch) as kept:
            fused = kept.array((len(values), *source.shape), torch.float32)
            write_fused(source, rules, rule, values, fused.write)
            better = Corrected(network, fixed.data, fused, kept)
            return painted(source, values, better.read, LabelRestorer(fixed.grid, native, kind)), values


def write_fused(
    source: Source, rules: Rules, rule: str, values: Tensor, write: Callable[[tuple[slice, ...], Tensor], None]
) -> None:
    """Fuse an image once more and write the probabilities of all `values`, `(label, *shape)`, part by part."""
    wanted = CONSENSUS_OF if rule == CONSENSUS else (rule,)
    own = {name: rules[name] for name in wanted}
    for part in fused_parts(source, own):
        write((slice(None), *part.window), in_list(part.results[rule].probabilities, part.values, values))


def correction_of(study: Study) -> Correction | None:
    """The correction that this run learnt; None where there is none, or it hurts."""
    record = _record(study)
    if record is None or not record.facts["used"]:
        return None
    folder = study.layout.model(MODEL)
    weights, settings = (study.artifact("correct", COHORT, folder / name) for name in (WEIGHTS, SETTINGS))
    return Correction(weights, settings, record.facts["gain"])


def correction_notes(study: Study) -> tuple[str, ...]:
    """Sentences for the reader of the report: whether fusion was corrected, and why not."""
    if not study.corrects:
        return ()
    record = _record(study)
    if record is not None:
        return (record.facts["sentence"], *record.facts["notes"])
    if "correct" in study.trouble:
        return (f"Fusion was not corrected: {study.trouble['correct']}.",)
    return (
        f"Fusion was not corrected: at least {MIN_CASES} atlases that can be labelled by the others are needed to "
        "learn what it does wrong, and there are fewer.",
    )


def in_list(probabilities: Tensor, own: Tensor, values: Tensor) -> Tensor:
    """Probabilities `(label, *shape)` of the label values `own` as such of all `values`, which hold them."""
    if own.tolist() == values.tolist():
        return probabilities
    result = probabilities.new_zeros((len(values), *probabilities.shape[1:]))
    result[torch.searchsorted(values, own.to(values.device)).to(result.device)] = probabilities
    return result


def widths_for(labels: int) -> list[int]:
    """Channels of each level of the network: more where there are many labels."""
    finest = _NARROW if labels <= _FEW_LABELS else 2 * _NARROW
    return [finest * 2**level for level in range(_LEVELS)]


def build_network(*, ndim: int, labels: int, widths: Sequence[int]) -> nn.Module:
    """The network, which sees the image and the fused probabilities of all structures; the same one at every call.

    Untrained, it says nothing.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        build: Any = SEGMENTATION_NETS[NETWORK]
        network: nn.Module = build(ndim=ndim, labels=labels, inputs=labels, widths=tuple(widths))
    for parameter in network.get_submodule("head").parameters():
        nn.init.zeros_(parameter)
    return network


def precision_on(device: str) -> Precision:
    """Precision of the training: half of it on a CPU that has instructions for that, where it is thrice as fast."""
    asked = [getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")]
    return "bf16-mixed" if device == "cpu" and any(ask() for ask in asked if ask is not None) else "32-true"


@lru_cache(maxsize=2)
def _loaded(weights: Artifact, settings: Artifact, device: str) -> tuple[nn.Module, Tensor]:
    """Network and label values; read once a process, not once a case."""
    about: dict[str, Any] = json.loads(settings.path.read_text(encoding="utf-8"))
    network = build_network(**about["network"])
    load_weights(weights.path, weights.sha256, network, settings.path.name)
    return network.eval().requires_grad_(False).to(device), torch.tensor(about["values"])


def _record(study: Study) -> Record | None:
    return study.record("correct", COHORT)
