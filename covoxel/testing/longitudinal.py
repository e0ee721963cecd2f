"""Synthetic series: subjects seen again and again while one structure changes by an exactly known factor a year."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from covoxel.io import write_image, write_labels, write_table
from covoxel.spatial import Grid, Image, Transform
from covoxel.testing.synthetic import (
    Anatomy,
    LocalChange,
    Variability,
    draw_subject,
    draw_visit,
    find_point,
    render,
    smooth_field,
    true_labels,
)

CHANGING, STABLE = 1, 2
"""Labels of the structure that changes and of the one that does not."""

CENTRES_MM = {CHANGING: (-16.0, 0.0, 2.0), STABLE: (24.0, 4.0, -3.0)}
RADII_MM = {CHANGING: (13.0, 14.0, 12.0), STABLE: (10.0, 13.0, 12.0)}
_HEAD_MM = (46.0, 48.0, 42.0)
_TISSUE, _BRIGHTNESS = 0.5, {CHANGING: 0.85, STABLE: 0.25}
_EDGE_MM = 1.0
_REACH = 1.5
_ROOM_MM = 1.0

SCANNER = Variability(gamma=0.0)
"""Noise and bias field, of each visit its own, and one contrast."""


@dataclass(frozen=True, eq=False)
class Visit:
    """One scan of a series.

    Parameters
    ----------
    image, label_map
        As a scanner stores it, and the true structures.
    years
        Since the first visit.
    factor
        Volume of the changing structure as a multiple of that at the first visit, exact in space.
    """

    image: Image
    label_map: Image
    years: float
    factor: float


def phantom(seed: int = 0, spacing_mm: float = 1.0) -> Anatomy:
    """A head of textured tissue with two structures, made from nothing but random numbers."""
    half = np.asarray(_HEAD_MM) + 4
    grid = Grid.from_spacing(tuple(int(n) for n in 2 * np.ceil(half / spacing_mm) + 1), spacing_mm)
    points = grid.to_ras(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))
    texture = 0.09 * smooth_field(grid, np.random.default_rng(seed), channels=1, kernel_mm=5.0)[0]
    inside = {label: _share(points, CENTRES_MM[label], RADII_MM[label]) for label in CENTRES_MM}
    tissue = np.full(grid.shape, _TISSUE)
    for label, share in inside.items():
        tissue += share * (_BRIGHTNESS[label] - _TISSUE)
    head = _share(points, (0.0, 0.0, 0.0), _HEAD_MM)
    intensity = Image(torch.from_numpy((head * np.clip(tissue + texture, 0.1, 1.1)).astype(np.float32)), grid)
    return Anatomy(intensity, {k: Image(torch.from_numpy(v.astype(np.float32)), grid) for k, v in inside.items()})


def _share(points: NDArray[np.float64], centre: Sequence[float], radii: Sequence[float]) -> NDArray[np.float64]:
    """Share of an ellipsoid at each point, falling from 1 to 0 over `2 _EDGE_MM` at its surface."""
    away = (points - np.asarray(centre)) / np.asarray(radii)
    radius = np.linalg.norm(away, axis=-1)
    outside_mm = (radius - 1) * float(np.mean(radii))
    share: NDArray[np.float64] = np.clip(0.5 - outside_mm / (2 * _EDGE_MM), 0, 1)
    return share


def draw_series(
    anatomy: Anatomy,
    seed: Sequence[int],
    *,
    percent_per_year: float,
    years: Sequence[float],
    spacing_mm: float = 2.0,
    variability: Variability = SCANNER,
) -> list[Visit]:
    """Scans of one random subject; visit n is the same however many there are.

    Parameters
    ----------
    anatomy
        As `phantom` makes it.
    seed
        Of everything that is drawn.
    percent_per_year
        By which the volume of `CHANGING` grows a year, compound.
    years
        When the visits are, the first usually 0.
    spacing_mm
        Of the scans; all voxels are cubes.
    variability
        Noise and bias field, drawn anew for each visit, and how subjects differ.
    """
    seen = anatomy.seen_at(spacing_mm)
    subject = draw_subject(seen, np.random.default_rng([*seed, 0]), spacing_mm=spacing_mm, variability=variability)
    centre, radius_mm = _ball_around(anatomy, subject)
    visits = []
    for number, year in enumerate(years):
        rng = np.random.default_rng([*seed, number + 1])
        factor = (1 + percent_per_year / 100) ** year
        change = LocalChange(centre, radius_mm, _REACH * radius_mm, factor)
        scan, _ = draw_visit(subject, [change], rng)
        visits.append(Visit(*render(seen, scan, rng, variability=variability), year, factor))
    return visits


def _ball_around(anatomy: Anatomy, subject: Transform) -> tuple[tuple[float, float, float], float]:
    """Centre and radius of a ball that holds the changing structure of a subject: inside, all volumes change alike."""
    x, y, z = find_point(subject, CENTRES_MM[CHANGING])
    label_map = true_labels(Anatomy(anatomy.intensity, {CHANGING: anatomy.probabilities[CHANGING]}), subject)
    points = subject.grid.to_ras(np.argwhere(label_map.data.numpy() == CHANGING))
    away = np.linalg.norm(points - np.array([x, y, z]), axis=1)
    return (float(x), float(y), float(z)), float(away.max()) + _ROOM_MM + _EDGE_MM + float(
        subject.grid.spacing_mm.max()
    )


def write_cohort(
    folder: Path,
    rates: Sequence[float],
    *,
    visits: int = 3,
    atlases: int = 3,
    seed: int = 0,
    spacing_mm: float = 2.0,
    variability: Variability = SCANNER,
) -> Path:
    """Write a cohort of series as a table; what is there already is not made again, so that a visit can be added.

    Parameters
    ----------
    folder
        Gets `images/`, `labels/` of the atlases and `truth.tsv`.
    rates
        Percent a year of each subject.
    visits
        Of each subject, about a year apart, no two intervals alike.
    atlases
        Further subjects with one visit and their true labels, named `a1`, `a2` ….

    Returns
    -------
    Path
        The table of the cohort.
    """
    anatomy, rows, truth = phantom(seed), [], []
    for number in range(atlases):
        case = f"a{number + 1}"
        if not (folder / "labels" / f"{case}.nii.gz").is_file():
            own: dict[str, Any] = {
                "percent_per_year": 0.0,
                "years": (0.0,),
                "spacing_mm": spacing_mm,
                "variability": variability,
            }
            (visit,) = draw_series(anatomy, (seed, 1, number), **own)
            write_labels(folder / "labels" / f"{case}.nii.gz", visit.label_map)
            write_image(folder / "images" / f"{case}.nii.gz", visit.image, dtype="int16")
        rows.append(_row(case, case, "", None, f"labels/{case}.nii.gz"))
    for number, rate in enumerate(rates):
        years = _years((seed, 2, number), visits)
        ids = [f"s{number + 1}_v{visit + 1}" for visit in range(visits)]
        if not all((folder / "images" / f"{case}.nii.gz").is_file() for case in ids):
            own = {"percent_per_year": rate, "years": years, "spacing_mm": spacing_mm, "variability": variability}
            for case, visit in zip(ids, draw_series(anatomy, (seed, 3, number), **own), strict=True):
                if not (folder / "images" / f"{case}.nii.gz").is_file():
                    write_image(folder / "images" / f"{case}.nii.gz", visit.image, dtype="int16")
        for case, year in zip(ids, years, strict=True):
            rows.append(_row(case, f"s{number + 1}", case.rpartition("_")[2], year, None))
        truth.append({"subject": f"s{number + 1}", "percent_per_year": rate})
    write_table(folder / "truth.tsv", pd.DataFrame(truth))
    write_table(folder / "labels.tsv", pd.DataFrame({"index": [CHANGING, STABLE], "name": ["changing", "stable"]}))
    write_table(folder / "cases.tsv", pd.DataFrame(rows))
    return folder / "cases.tsv"


def _years(seed: Sequence[int], visits: int) -> list[float]:
    """Years of visits in whole days, each about a year after the one before."""
    days = np.cumsum([0, *(int(365 + d) for d in np.random.default_rng(seed).integers(-40, 41, 20))])
    return [float(day) / 365.25 for day in days[:visits]]


def _row(case: str, subject: str, session: str, year: float | None, label: str | None) -> dict[str, object]:
    day = None if year is None else (date(2020, 3, 1) + timedelta(days=round(year * 365.25))).isoformat()
    place: dict[str, object] = {"id": case, "image": f"images/{case}.nii.gz", "label": label}
    return place | {"subject": subject, "session": session or None, "date": day}
