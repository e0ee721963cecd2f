"""Trends: volumes of structures against covariates, from how the template is stretched onto each case."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student
from torch import Tensor

from covoxel.atlas.conditional.design import Column, Design, Value
from covoxel.atlas.placement import Placement
from covoxel.metrics.folding import determinants


@dataclass(frozen=True)
class Trend:
    """How the volume of a structure follows a covariate, the others held.

    Parameters
    ----------
    label
        Of the structure.
    covariate, level
        A number, or a level of a category against its commonest one (`against`).
    percent
        Change of the volume for one unit of the number, at the middle of the cohort, or from that level to this one.
    low, high
        95 % confidence interval.
    """

    label: int
    covariate: str
    level: str
    against: str
    percent: float
    low: float
    high: float


def case_volumes(probabilities: Tensor, labels: Sequence[int], placement: Placement) -> dict[int, float]:
    """Volume of each structure in a case, mm³ (mm² in 2-D): the integral of `det J` over its probability.

    Parameters
    ----------
    probabilities
        `(label, *grid.shape)` on the template.
    labels
        Value of each; background 0 is left out.
    placement
        Where the case lies.
    """
    determinant = determinants(placement.transform()).double()
    voxel, pairs = placement.grid.voxel_volume_mm, zip(labels, probabilities, strict=True)
    return {int(v): float((determinant * p.double()).sum()) * voxel for v, p in pairs if int(v) != 0}


def trends(
    design: Design, known: Mapping[str, Mapping[str, Value]], volumes: Mapping[str, Mapping[int, float]]
) -> list[Trend]:
    """Least squares of the logarithm of the volume of each structure on the design.

    Parameters
    ----------
    design, known
        And the covariates of the cases it was made of, by id.
    volumes
        mm³ by label, by id, of the same cases.
    """
    matrix = np.column_stack([np.ones(len(known)), design.matrix(known.values())])
    covariance = np.linalg.inv(matrix.T @ matrix)
    free = len(known) - matrix.shape[1]
    reach = float(student.ppf(0.975, free))
    found = []
    for label in sorted(next(iter(volumes.values()))):
        sizes = np.asarray([volumes[case][label] for case in known])
        if not (sizes > 0).all():
            continue
        logs = np.log(sizes)
        coefficients = covariance @ matrix.T @ logs
        residual = float(((logs - matrix @ coefficients) ** 2).sum()) / free
        errors = reach * np.sqrt(residual * np.diag(covariance))
        found += [
            _trend(design, column, label, float(coefficients[k]), float(errors[k]))
            for k, column in enumerate(design.columns, start=1)
            if column.power == 1
        ]
    return found


def _trend(design: Design, column: Column, label: int, slope: float, error: float) -> Trend:
    name, level, against, unit = column.covariate, column.level or "", "", 1.0
    if column.level is None:
        unit = design.scales[name].spread
    else:
        against = max(sorted(design.levels[name]), key=lambda other: design.levels[name][other])
    percents = [100 * float(np.expm1(value / unit)) for value in (slope, slope - error, slope + error)]
    return Trend(label, name, level, against, *percents)
