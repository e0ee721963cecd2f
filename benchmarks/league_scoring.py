"""How good the warps of one method are on one case: overlap, surfaces, folds, and the labels fused from them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.fusion_evidence import STRUCTURES, Cohort
from benchmarks.league_methods import Method, transforms_of
from covoxel.fusion import fuse, gather_evidence
from covoxel.fusion.base import smallest_winner
from covoxel.metrics import dice, digital_folding, folding, hd95_mm
from covoxel.spatial import Image, Transform, resample_probabilities

VALUES = (0, *STRUCTURES)


@dataclass(frozen=True)
class PairScore:
    """One atlas on one case.

    Parameters
    ----------
    case, atlas
        Their names.
    dice, hd95_mm
        One number a structure, background never counted.
    folds_percent, sd_log_jacobian
        By central differences, all voxels of the fixed grid.
    digital_percent, ndv_percent
        Voxels that are no digital diffeomorphism, and the volume turned inside out.
    """

    case: str
    atlas: str
    dice: tuple[float, ...]
    hd95_mm: tuple[float, ...]
    folds_percent: float
    sd_log_jacobian: float
    digital_percent: float
    ndv_percent: float


@dataclass(frozen=True)
class ScoringJob:
    """One case, all atlases, one method; `rules` label the case from the warps."""

    method: Method
    cohort: Cohort
    case: str
    rules: tuple[str, ...]


@dataclass(frozen=True)
class CaseScore:
    """All pairs of one case, and by fusion rule the Dice of each structure."""

    case: str
    pairs: tuple[PairScore, ...]
    fused: dict[str, tuple[float, ...]]


def score(job: ScoringJob) -> CaseScore:
    """Register all atlases to the case, move their labels, and only then look at the truth."""
    cohort = job.cohort
    fixed, moving = cohort.image(job.case), [cohort.image(atlas) for atlas in cohort.atlases]
    label_maps = [cohort.label_map(atlas) for atlas in cohort.atlases]
    transforms = transforms_of(job.method, fixed, moving, label_maps)
    moved = [_moved(label_map, fixed, t) for label_map, t in zip(label_maps, transforms, strict=True)]
    fused = {}
    if job.rules:
        evidence = gather_evidence(fixed, moving, label_maps, transforms)
        fused = {rule: fuse(rule, evidence).label_map for rule in job.rules}
    truth = cohort.truth(job.case)
    named = zip(cohort.atlases, transforms, moved, strict=True)
    pairs = tuple(_pair(job.case, atlas, t, label_map, truth, fixed) for atlas, t, label_map in named)
    return CaseScore(job.case, pairs, {rule: _dice(label_map, truth) for rule, label_map in fused.items()})


def _moved(label_map: Image, fixed: Image, transform: Transform) -> Tensor:
    """Likeliest label of the linearly interpolated indicators, `(*shape)`."""
    return smallest_winner(resample_probabilities(label_map, torch.tensor(VALUES), fixed.grid, transform))


def _pair(case: str, atlas: str, transform: Transform, label_map: Tensor, truth: Tensor, fixed: Image) -> PairScore:
    regular, digital = folding(transform), digital_folding(transform)
    distances = hd95_mm(label_map, truth, list(STRUCTURES), spacing_mm=fixed.grid.spacing_mm)
    return PairScore(
        case,
        atlas,
        _dice(label_map, truth),
        _in_order(distances),
        regular.percent,
        regular.sd_log_jacobian,
        digital.percent,
        digital.volume_percent,
    )


def _dice(label_map: Tensor, truth: Tensor) -> tuple[float, ...]:
    return _in_order(dice(label_map, truth, list(STRUCTURES)))


def _in_order(found: dict[int, float]) -> tuple[float, ...]:
    return tuple(found[value] for value in STRUCTURES)
