"""Plan: fingerprint, plans and prepared cases of a data set, as nnU-Net makes them, cut down to the memory."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from covoxel.external.nnunet.cut import Cut
from covoxel.external.nnunet.dataset import Dataset, DatasetCase
from covoxel.external.nnunet.dataset_write import dataset_json
from covoxel.external.nnunet.errors import NnunetError
from covoxel.external.nnunet.library import require
from covoxel.external.nnunet.memory import at_hand, in_words
from covoxel.external.nnunet.prepared import is_prepared, labels_in, save_prepared
from covoxel.external.nnunet.profiles import Profile
from covoxel.io import ImageError, sha256_image, sha256_json, write_json
from covoxel.memory_errors import is_out_of_memory

log = logging.getLogger(__name__)

Tell = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Plan:
    """What a training needs.

    Parameters
    ----------
    dataset
        Whose plan it is.
    folder
        Of the prepared cases.
    profile
        With what the plan did not take as it was: patch, batch, workers.
    plans
        nnU-Net's `plans.json`.
    dataset_json
        nnU-Net's `dataset.json`.
    configuration
        `3d_fullres` or `2d`.
    remarks
        Sentences: what was cut down and why, which label no case has.
    failed
        Sentence of each case that could not be prepared, by id; it does not train.
    keys
        SHA-256 of what each prepared case was made from, by id.
    """

    dataset: Dataset
    folder: Path
    profile: Profile
    plans: Mapping[str, Any]
    dataset_json: Mapping[str, Any]
    configuration: str
    remarks: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def cases(self) -> dict[str, DatasetCase]:
        """Those that can train, by id."""
        return {case.id: case for case in self.dataset.training if case.id not in self.failed}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the plans; equal plans have equal ones."""
        return sha256_json([self.plans, self.dataset_json["labels"], self.configuration])


def plan(
    dataset: Dataset,
    work: Path,
    profile: Profile,
    *,
    memory: int | None = None,
    device: torch.device | str = "cpu",
    progress: Tell | None = None,
) -> Plan:
    """Fingerprint, plan and prepare a data set. What `work` has of it already is not made again.

    Parameters
    ----------
    dataset
        Of `write_dataset` or `read_dataset`.
    work
        Folder for what is made; a study of its own, a folder of its own.
    profile
        What to override of nnU-Net's plans.
    memory
        Bytes that a training may take; None: those at hand on `device`. A plan that takes more is cut down: first the
        batch, then the patch, then the workers.
    device
        Where the training will be.
    progress
        Called after each case with the cases done and the cases in all.

    Raises
    ------
    NnunetError
        If no case can be used.
    MemoryLimitError
        If the smallest plan takes too much.
    MissingLibraryError
        If nnU-Net is not installed.
    """
    require()
    from covoxel.external.nnunet import planner

    work, failed, hashes = Path(work), dict(dataset.failed), _hashes(dataset)
    content = dataset_json(dataset, weights=False)
    facts = _facts(dataset, failed)
    if not facts:
        raise NnunetError(f"{dataset.folder} has no case to train on: {next(iter(failed.values()), 'no label map')}")
    content["numTraining"] = len(facts)
    plans = planner.plans_of(dataset.folder.name, content, planner.fingerprint_of(facts.values()), profile, work)
    configuration = _configuration(plans, profile)
    planner.fit(plans, configuration, profile)
    plans["configurations"] = {configuration: plans["configurations"][configuration]}
    own, remarks = plans["configurations"][configuration], []
    small = Cut(plans, content, configuration, profile, torch.device(device), memory)
    remarks += small.cut_down()
    profile = replace(profile, batch=own["batch_size"], patch=tuple(own["patch_size"]), workers=small.workers)
    made = Plan(dataset, work / "prepared", profile, plans, content, configuration, (), failed)
    write_json(work / "plans.json", plans)
    keys = _prepare(made, hashes, failed, progress)
    if not made.cases:
        raise NnunetError(f"{dataset.folder} has no case to train on: {next(iter(failed.values()))}")
    remarks += _unseen(made)
    for remark in remarks:
        log.warning("%s", remark)
    return replace(made, remarks=tuple(remarks), keys=keys)


def _hashes(dataset: Dataset) -> dict[str, list[str]]:
    """SHA-256 of the files of each labelled case; one that cannot be read has none."""
    found = {}
    for case in dataset.training:
        paths = [path for path in (*case.images, case.label, case.confidence) if path is not None]
        found[case.id] = [sha256_image(path) for path in paths if path.is_file()]
    return found


def _facts(dataset: Dataset, failed: dict[str, str]) -> dict[str, Any]:
    from covoxel.external.nnunet.planner import facts_of
    from covoxel.external.nnunet.preprocess import read_case

    found: dict[str, Any] = {}
    for case in dataset.training:
        try:
            images, labels, _, spacing = read_case(dataset, case)
        except (NnunetError, ImageError) as error:
            failed[case.id] = str(error)
            continue
        if not images.any():
            failed[case.id] = f"the images of {case.id} must not be zero everywhere"
            continue
        found[case.id] = facts_of(images, _without_ignored(labels, dataset.ignore), spacing, len(dataset.training))
    return found


def _without_ignored(labels: Any, ignore: int | None) -> Any:
    return labels if ignore is None else (labels * (labels != ignore)).astype(labels.dtype)


def _configuration(plans: Mapping[str, Any], profile: Profile) -> str:
    known = plans["configurations"]
    wanted = profile.configuration or ("3d_fullres" if "3d_fullres" in known else "2d")
    if wanted not in known:
        raise NnunetError(f"configuration must be one of {', '.join(known)} for these images, got {wanted}")
    return wanted


def _prepare(
    made: Plan, hashes: Mapping[str, list[str]], failed: dict[str, str], progress: Tell | None
) -> dict[str, str]:
    from covoxel.external.nnunet.preprocess import prepare, read_case

    cases = list(made.cases.values())
    own = made.plans["configurations"][made.configuration]
    # Only what changes the voxels: another batch or patch takes the same cases.
    parts = [made.plans["transpose_forward"], made.plans["foreground_intensity_properties_per_channel"]]
    parts += [own[name] for name in ("spacing", "normalization_schemes", "use_mask_for_norm", "preprocessor_name")]
    keys = {}
    for done, case in enumerate(cases, start=1):
        keys[case.id] = key = sha256_json([parts, made.dataset_json["labels"], made.dataset.canonical, hashes[case.id]])
        if not is_prepared(made.folder, case.id, key):
            try:
                found = prepare(made.plans, made.dataset_json, made.configuration, read_case(made.dataset, case))
                save_prepared(made.folder, case.id, key, found)
            except (NnunetError, ImageError) as error:
                failed[case.id] = str(error)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                failed[case.id] = f"{case.id} is too large to be prepared in the {in_words(at_hand())} at hand"
        if progress is not None:
            progress(done, len(cases))
    return keys


def _unseen(made: Plan) -> list[str]:
    seen = set().union(*(labels_in(made.folder, case) for case in made.cases))
    places = enumerate(made.dataset.values)
    missing = [value for place, value in places if place and place not in seen]
    return [f"no training case has the label {v} ({made.dataset.names[v]}): it cannot be learnt" for v in missing]
