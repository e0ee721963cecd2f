"""The built-in cohort: cases drawn from the MNI152 maps inside nilearn, with true labels, displacements and volumes."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from covoxel.io import read_image, write_image, write_json, write_labels, write_table
from covoxel.spatial import Image, Transform
from covoxel.testing.synthetic import Anatomy, LocalChange, draw_subject, draw_visit, find_point, render
from data_catalog.readers.base import peek_json
from data_catalog.schema import CohortError

Kind = Literal["cross_section", "longitudinal"]

LABEL_NAMES = {1: "grey matter", 2: "white matter"}
LICENCE = (
    "MNI ICBM 152 2009a: Copyright (C) 1993-2004 Louis Collins, McConnell Brain Imaging Centre; free to use and copy"
)
VISITS = 3
REGION = "left medial temporal lobe"
CONTROL_REGION = "right medial temporal lobe"
REGION_MNI_MM = {REGION: (-26.0, -20.0, -16.0), CONTROL_REGION: (26.0, -20.0, -16.0)}
RADIUS_MM = 12.0
REACH_MM = 26.0
LOSS_PER_YEAR = (0.02, 0.08)
_VERSION = 1


@dataclass(frozen=True)
class _Scan:
    """One case: its name, its truth, and the random numbers for its appearance."""

    id: str
    anatomy_from_scan: Transform
    rng: np.random.Generator
    changes: tuple[dict[str, object], ...] = ()


def make_synthetic_cohort(
    folder: Path | str,
    cases: int = 8,
    *,
    labelled: int | None = None,
    seed: int = 0,
    spacing_mm: float = 2.0,
    kind: Kind = "cross_section",
) -> Path:
    """Write a cohort of random brains whose truth is known; what is there already is not made again.

    Parameters
    ----------
    folder
        Gets `images/`, `labels/` (of the first `labelled` cases), `labels.tsv`, `cases.tsv` (the same cohort as a
        table, with dates) and `truth/`: `labels/`, `transforms/` (from each case to MNI152), `volumes.tsv` and, for
        a longitudinal cohort, `changes.tsv` with the ball that shrank, its Jacobian and its volume.
    cases
        Number of images. Case n is the same however many there are.
    labelled
        Number of cases with a label, by default half of them; the true labels of all, for scoring, are in
        `truth/labels`.
    seed
        Equal settings give equal bytes on one machine.
    spacing_mm
        Of the images; all voxels are cubes.
    kind
        "cross_section": one image a subject; "longitudinal": three yearly visits a subject.

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    CohortError
        If a number makes no sense, or the folder holds a cohort made with other settings.
    """
    labelled = (cases + 1) // 2 if labelled is None else labelled
    _check_numbers(cases, labelled, spacing_mm, kind)
    folder = Path(folder)
    settings: dict[str, object] = {
        "version": _VERSION,
        "cases": cases,
        "labelled": labelled,
        "seed": seed,
        "spacing_mm": float(spacing_mm),
        "kind": kind,
    }
    _claim(folder, settings)
    ids = _ids(cases, kind)
    if not _is_complete(folder, ids, labelled, kind):
        _draw(folder, ids, labelled, seed, spacing_mm, kind)
    return folder


def _check_numbers(cases: int, labelled: int, spacing_mm: float, kind: str) -> None:
    if kind not in get_args(Kind):
        raise CohortError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")
    if not 1 <= cases <= 999 or not 0 <= labelled <= cases:
        raise CohortError(f"cases must be 1 to 999 and labelled 0 to cases, got {cases} and {labelled}")
    if not 1 <= spacing_mm <= 8:
        raise CohortError(f"spacing_mm must be 1 to 8 mm, got {spacing_mm}")


def _claim(folder: Path, settings: dict[str, object]) -> None:
    """Write the settings into the folder, or refuse one that holds something else."""
    description = folder / "synthetic.json"
    if description.is_file():
        if peek_json(description) != settings:
            raise CohortError(f"{folder} holds a synthetic cohort made with other settings; choose another folder")
        return
    if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise CohortError(f"{folder} is not empty and holds no synthetic cohort; choose another folder")
    write_json(description, settings)


def _ids(cases: int, kind: Kind) -> list[str]:
    if kind == "cross_section":
        return [f"sub-{number + 1:03d}" for number in range(cases)]
    return [f"sub-{number // VISITS + 1:03d}_ses-{number % VISITS + 1:02d}" for number in range(cases)]


def _paths(folder: Path, case_id: str) -> tuple[Path, Path, Path, Path]:
    """Image, label, true label and true transform of a case."""
    truth = folder / "truth"
    return (
        folder / "images" / f"{case_id}.nii.gz",
        folder / "labels" / f"{case_id}.nii.gz",
        truth / "labels" / f"{case_id}.nii.gz",
        truth / "transforms" / f"from-{case_id}_to-mni152_xfm.h5",
    )


def _is_complete(folder: Path, ids: list[str], labelled: int, kind: Kind) -> bool:
    paths = [folder / "truth" / "volumes.tsv", folder / "cases.tsv"]
    if kind == "longitudinal":
        paths.append(folder / "truth" / "changes.tsv")
    for number, case_id in enumerate(ids):
        image, label, *truth = _paths(folder, case_id)
        paths += [image, *truth, *([label] if number < labelled else [])]
    return all(path.is_file() for path in paths)


def _draw(folder: Path, ids: list[str], labelled: int, seed: int, spacing_mm: float, kind: Kind) -> None:
    anatomy = load_anatomy().seen_at(spacing_mm)
    names = pd.DataFrame({"index": list(LABEL_NAMES), "name": list(LABEL_NAMES.values())})
    write_table(folder / "labels.tsv", names)
    write_json(folder / "dataset_description.json", {"Name": "synthetic", "License": LICENCE})
    volumes: list[dict[str, object]] = []
    changes: list[dict[str, object]] = []
    subject: Transform | None = None
    for number, case_id in enumerate(ids):
        who, visit = (number, 0) if kind == "cross_section" else divmod(number, VISITS)
        if visit == 0 or subject is None:
            subject = draw_subject(anatomy, np.random.default_rng([seed, who]), spacing_mm=spacing_mm)
        scan = _scan(case_id, subject, kind, seed, who, visit)
        volumes += _save(folder, scan, anatomy, with_label=number < labelled)
        changes += scan.changes
    write_table(folder / "truth" / "volumes.tsv", pd.DataFrame(volumes))
    if changes:
        write_table(folder / "truth" / "changes.tsv", pd.DataFrame(changes))
    write_table(folder / "cases.tsv", pd.DataFrame(_rows(ids, labelled, kind)))


def _scan(case_id: str, subject: Transform, kind: Kind, seed: int, who: int, visit: int) -> _Scan:
    rng = np.random.default_rng([seed, who, visit])
    if kind == "cross_section":
        return _Scan(case_id, subject, rng)
    years = float(visit)
    loss = np.random.default_rng([seed, who, VISITS]).uniform(*LOSS_PER_YEAR)
    factors = {REGION: (1 - loss) ** years, CONTROL_REGION: 1.0}
    regions = {
        name: LocalChange(tuple(find_point(subject, at)), RADIUS_MM, REACH_MM, factors[name])
        for name, at in REGION_MNI_MM.items()
    }
    anatomy_from_scan, subject_from_scan = draw_visit(subject, list(regions.values()), rng)
    scan_from_subject = np.linalg.inv(subject_from_scan)
    changes = []
    for name, change in regions.items():
        centre = scan_from_subject[:3, :3] @ np.asarray(change.centre_ras) + scan_from_subject[:3, 3]
        changes.append(
            {
                "id": case_id,
                "years": years,
                "region": name,
                "jacobian": change.factor,
                "volume_ml": 4 / 3 * np.pi * change.radius_now_mm**3 / 1000,
                "radius_mm": change.radius_now_mm,
                **dict(zip(("centre_r_mm", "centre_a_mm", "centre_s_mm"), centre.tolist(), strict=True)),
            }
        )
    return _Scan(case_id, anatomy_from_scan, rng, tuple(changes))


def _save(folder: Path, scan: _Scan, anatomy: Anatomy, *, with_label: bool) -> list[dict[str, object]]:
    from covoxel.io.transforms import write_transform  # loads SimpleITK, which reading a cohort does not need

    image, label_map = render(anatomy, scan.anatomy_from_scan, scan.rng)
    image_path, label_path, truth_path, transform_path = _paths(folder, scan.id)
    write_labels(truth_path, label_map)
    write_transform(transform_path, scan.anatomy_from_scan)
    if with_label:
        write_labels(label_path, label_map)
    write_image(image_path, image, dtype="int16")
    voxel_ml = label_map.grid.voxel_volume_mm / 1000
    return [
        {"id": scan.id, "label": value, "name": name, "volume_ml": int((label_map.data == value).sum()) * voxel_ml}
        for value, name in LABEL_NAMES.items()
    ]


def _rows(ids: list[str], labelled: int, kind: Kind) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for number, case_id in enumerate(ids):
        subject, _, session = case_id.partition("_")
        rows.append(
            {
                "id": case_id,
                "image": f"images/{case_id}.nii.gz",
                "label": f"labels/{case_id}.nii.gz" if number < labelled else None,
                "subject": subject,
                "session": session or None,
                "date": None if kind == "cross_section" else f"{2020 + number % VISITS}-03-01",
            }
        )
    return rows


def load_anatomy() -> Anatomy:
    """MNI152 T1 with its grey and white matter maps (1 mm, skull removed), from the files that nilearn ships.

    Raises
    ------
    CohortError
        If nilearn is not installed or has no such files.

    References
    ----------
    Fonov et al., Unbiased average age-appropriate atlases for pediatric studies, NeuroImage 2011.
    """
    spec = find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations:
        raise CohortError("the synthetic cohort is drawn from maps inside the package nilearn, which is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "data"

    def load(name: str) -> Image:
        path = folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
        if not path.is_file():
            raise CohortError(f"the synthetic cohort needs {path.name}, which this version of nilearn does not ship")
        image = read_image(path)
        return Image(image.data / 255, image.grid)

    return Anatomy(load("t1"), {1: load("gm"), 2: load("wm")})
