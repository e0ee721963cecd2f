"""Learn: how far each propagated label map can be trusted, by training one network on all of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from prefect import task
from safetensors.torch import save_file
from torch import Tensor

from covoxel.io import read_labels, write_json, write_table
from covoxel.io.atomic import atomic_path
from covoxel.training import PairedCase, Trained, TrainingDivergedError, TrainingSettings, paired_case, teacher, train
from nets.segmentation import SEGMENTATION_NETS
from tasks.evidence import CaseFiles, case_files, open_evidence
from tasks.facts import LearnFacts
from tasks.job import COHORT, Job, Made, number, work
from tasks.options import TASK_OPTIONS
from tasks.settings import LearnSettings
from tasks.study import Study

CACHE_BYTES = 2 * 2**30
THREADS = 2
"""Of the training: a fixed number, so that results do not depend on the number of cores."""


@dataclass(frozen=True)
class LearnJob(Job):
    """All cases with the atlases that were brought onto them.

    Parameters
    ----------
    files
        What is read of each case, by id.
    settings
        Network and training.
    """

    stage = "learn"
    facts = LearnFacts
    code = (
        "covoxel.spatial",
        "covoxel.io",
        "covoxel.losses.box",
        "covoxel.fusion",
        "covoxel.registration.pyramid",
        "covoxel.training.augmentation",
        "covoxel.training.averaging",
        "covoxel.training.checkpoint",
        "covoxel.training.data_parameters",
        "covoxel.training.progress",
        "covoxel.training.seeds",
        "nets.blocks",
        "nets.segmentation",
        "tasks.evidence",
        "tasks.learn",
    )
    vital = False

    files: Mapping[str, CaseFiles]
    settings: LearnSettings

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return {f"{case}.{name}": sha for case, files in self.files.items() for name, sha in files.hashes().items()}

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        return self.settings.model_dump(mode="json")


@task(task_run_name="learn whom to trust", **TASK_OPTIONS)
@work
def learn(job: LearnJob) -> Made:
    """Write network, weights and learning curve; goes on from a checkpoint if it was killed."""
    cases = _Cases(job.files, job.settings.teacher, job.layout.scratch)
    network = _network(job.settings, len(cases.values), ndim=cases[0].fixed.ndim)
    options = TrainingSettings(seed=job.settings.seed, epochs=job.settings.epochs)
    checkpoint = job.layout.checkpoint(job.fingerprint())
    torch.set_num_threads(THREADS)
    try:
        trained = train(
            network, cases, labels=len(cases.values), settings=options, device=job.device, checkpoint=checkpoint
        )
    except TrainingDivergedError as error:
        raise ValueError(f"{error}; all atlases are trusted alike") from error
    outputs = _write(job, trained, cases.values)
    checkpoint.unlink(missing_ok=True)
    parameters: dict[str, dict[str, float]] = {}
    for row in trained.weights.to_dict("records"):
        parameters.setdefault(str(row["case"]), {})[str(row["atlas"])] = float(row["parameter"])
    curve = [{"step": int(row["step"]), "loss": number(row["loss"])} for row in trained.curve.to_dict("records")]
    return Made(outputs, {"parameters": parameters, "curve": curve})


def learn_jobs(study: Study) -> list[LearnJob]:
    """The one job, if a rule or the choice of atlases wants learnt weights."""
    registered = {case: record for case, record in study.records.get("register", {}).items() if study.is_sound(case)}
    if not study.learns or not registered:
        return []
    files = {case: case_files(study, case, sorted(record.facts["transforms"])) for case, record in registered.items()}
    return [LearnJob(COHORT, study.call.output, study.device, files, study.call.settings.learn)]


def learnt_parameters(study: Study, case: str) -> dict[str, float]:
    """Raw data parameter of each atlas of a case; empty if none were learnt."""
    record = study.record("learn", COHORT)
    return {} if record is None else dict(record.facts["parameters"].get(case, {}))


def trust_of(parameters: Mapping[str, float]) -> dict[str, float]:
    """Confidence, 0 to 1, in each atlas: the sigmoid of its parameter."""
    return {atlas: 1 / (1 + math.exp(-value)) for atlas, value in parameters.items()}


class _Cases:
    """The pairs of each case, labels numbered alike in all; read once as long as they fit into 2 GiB."""

    def __init__(self, files: Mapping[str, CaseFiles], rule: str | None, scratch: Path) -> None:
        self._files = sorted(files.items())
        self._teacher = rule
        self._scratch = scratch
        maps = {atlas.labels.path for case in files.values() for atlas in case.atlases.values()}
        found = [torch.unique(read_labels(path).data) for path in sorted(maps)]
        self.values: Tensor = torch.unique(torch.cat([torch.zeros(1, dtype=torch.int64), *found]))
        self._kept: dict[int, PairedCase] = {}
        self._room = CACHE_BYTES

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> PairedCase:
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        case = self._read(*self._files[index])
        size = sum(
            part.nbytes for part in (case.fixed, case.label_maps, case.valid, case.consensus) if part is not None
        )
        if size <= self._room:
            self._room -= size
            self._kept[index] = case
        return case

    def _read(self, case: str, files: CaseFiles) -> PairedCase:
        with open_evidence(files, "cpu", self._scratch) as (_, source):
            consensus = None if self._teacher is None else teacher(source, files.names, self._teacher)
            own = paired_case(case, source, files.names, consensus)
            place = torch.searchsorted(self.values, source.values)
        kind = torch.uint8 if len(self.values) <= 256 else torch.int16
        taught = None if own.consensus is None else place[own.consensus.long()].to(kind)
        return replace(own, label_maps=place[own.label_maps.long()].to(kind), consensus=taught)


def _network(settings: LearnSettings, labels: int, ndim: int) -> torch.nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(settings.seed)
        return SEGMENTATION_NETS[settings.network](ndim=ndim, labels=labels)


def _write(job: LearnJob, trained: Trained, values: Tensor) -> list[Path]:
    folder = job.layout.model("data_parameters")
    weights = folder / "network.safetensors"
    with atomic_path(weights) as temporary:
        save_file({name: part.contiguous().cpu() for name, part in trained.network.state_dict().items()}, temporary)
    write_json(folder / "settings.json", dict(job.parameters()) | {"values": values.tolist()})
    write_table(folder / "weights.tsv", trained.weights)
    write_table(folder / "curve.tsv", trained.curve)
    return [weights, folder / "settings.json", folder / "weights.tsv", folder / "curve.tsv"]
