"""BIDS: what lacks the chosen image is named, and of several files a setting chooses, never the alphabet."""

from collections.abc import Callable
from pathlib import Path

import pytest

from data_catalog import Choice, Cohort, CohortError, open_cohort
from data_catalog.choice import entity

Scan = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, scan: Scan, label: Scan) -> Callable[..., Path]:
    """Make images and label maps: `make("01_T1w", "01_ses-1_T2w", derived=["auto/01_desc-aseg_dseg"])`."""

    def write(*images: str, derived: tuple[str, ...] = ()) -> Path:
        for name in images:
            scan(tmp_path / _folder(name) / f"sub-{name}.nii.gz")
        for name in derived:
            pipeline, _, file = name.partition("/")
            label(tmp_path / "derivatives" / pipeline / _folder(file) / f"sub-{file}.nii.gz")
        return tmp_path

    return write


def _folder(name: str) -> str:
    session = entity(name, "ses")
    return f"sub-{name.split('_')[0]}/" + (f"ses-{session}/anat" if session else "anat")


def _labels(cohort: Cohort) -> dict[str, str | None]:
    return {case.id: case.label and "/".join(case.label.relative_to(cohort.root).parts[1:2]) for case in cohort.cases}


def _reasons(cohort: Cohort) -> dict[str, str]:
    return {item.id: item.reason for item in cohort.rejected}


def test_subjects_and_visits_without_the_image_are_named(make: Callable[..., Path]) -> None:
    root = make("01_T1w", "01_T2w", "02_T2w", "02_FLAIR", "03_ses-1_T1w", "03_ses-2_T2w", "04_mask")
    (root / "sub-05" / "func").mkdir(parents=True)
    (root / "sub-06" / "anat").mkdir(parents=True)
    (root / "sub-07").symlink_to("nowhere")
    (root / "sub-03" / "ses-3" / "func").mkdir(parents=True)
    cohort = open_cohort(root)
    assert [case.id for case in cohort.cases] == ["sub-01", "sub-03_ses-1"]
    assert _reasons(cohort) == {
        "sub-02": "sub-02/anat: it has FLAIR and T2w but no T1w (the setting cohort.image chooses)",
        "sub-03_ses-2": "sub-03/ses-2/anat: it has T2w but no T1w (the setting cohort.image chooses)",
        "sub-04": "sub-04/anat: it holds no T1w image",
        "sub-05": "sub-05: there is no folder anat with a T1w image",
        "sub-06": "sub-06/anat: it holds no T1w image",
        "sub-07": "sub-07: the link leads to nowhere, which does not exist; fetch its content or remove the link",
    }
    assert dict(cohort.ignored) == {"images of other contrasts": 4, "masks": 1, "folders of other modalities": 2}


def test_images_outside_of_anat_and_label_maps_within_it_are_named(
    make: Callable[..., Path], scan: Scan, label: Scan
) -> None:
    root = make("01_T1w")
    scan(root / "sub-02" / "sub-02_T1w.nii.gz")
    scan(root / "sub-03_T1w.nii.gz")
    scan(root / "extra" / "x.nii.gz")
    scan(root / "sourcedata" / "sub-01" / "x.nii.gz")
    label(root / "sub-01" / "anat" / "sub-01_dseg.nii.gz")
    reasons = _reasons(open_cohort(root))
    assert reasons["sub-02"].startswith("sub-02: images lie outside of anat (sub-02/sub-02_T1w.nii.gz)")
    assert reasons["sub-01_dseg"] == "sub-01/anat/sub-01_dseg.nii.gz: label maps must lie in derivatives"
    assert "sub-03_T1w.nii.gz" in reasons[root.name]
    assert "extra/x.nii.gz" in reasons["extra"]
    assert len(reasons) == 4


@pytest.mark.parametrize(
    ("derived", "names"),
    [
        (("auto/01_desc-aseg_dseg", "manual/01_desc-manual_dseg"), ("desc-aseg", "desc-manual")),
        (("auto/01_dseg", "manual/01_dseg"), ("derivatives/auto/", "derivatives/manual/")),
        (("m/01_desc-a_dseg", "m/01_desc-b_dseg", "m/01_desc-c_dseg"), ("desc-a_", "desc-b_", "desc-c_")),
        (("m/01_label-GM_dseg", "m/01_label-WM_dseg"), ("label-GM", "label-WM")),
    ],
)
def test_of_several_label_maps_none_is_taken_and_all_are_named(
    make: Callable[..., Path], derived: tuple[str, ...], names: tuple[str, ...]
) -> None:
    cohort = open_cohort(make("01_T1w", "02_T1w", derived=(*derived, "m/02_dseg")))
    assert _labels(cohort) == {"sub-01": None, "sub-02": "m"}
    (reason,) = _reasons(cohort).values()
    assert all(name in reason for name in names)
    with pytest.raises(CohortError) as caught:
        cohort.with_atlases(["sub-01"])
    assert all(name in str(caught.value) for name in names)
    assert "choose by the setting cohort.label" in str(caught.value)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("desc-manual", {"sub-01": "manual", "sub-02": None}),
        ("desc-aseg", {"sub-01": "auto", "sub-02": "auto"}),
        ("auto", {"sub-01": "auto", "sub-02": "auto"}),
        ("manual/desc-manual", {"sub-01": "manual", "sub-02": None}),
        ("manual/desc-aseg", {"sub-01": None, "sub-02": None}),
        ("desc-aseg_dseg", {"sub-01": "auto", "sub-02": "auto"}),
    ],
)
def test_a_setting_chooses_the_label_map(make: Callable[..., Path], chosen: str, expected: dict[str, str]) -> None:
    derived = ("auto/01_desc-aseg_dseg", "manual/01_desc-manual_dseg", "auto/02_desc-aseg_dseg")
    cohort = open_cohort(make("01_T1w", "02_T1w", derived=derived), Choice(label=chosen))
    assert _labels(cohort) == expected
    assert not cohort.rejected
    assert cohort.ignored["label maps that are not chosen"] == 3 - sum(value is not None for value in expected.values())


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (Choice(), ["sub-01_run-01", "sub-01_run-02", "sub-02", "sub-03_acq-fast"]),
        (Choice(run="1"), ["sub-01_run-01", "sub-02", "sub-03_acq-fast"]),
        (Choice(run="run-02"), ["sub-01_run-02", "sub-02", "sub-03_acq-fast"]),
        (Choice(image="T2w"), ["sub-02"]),
        (Choice(image="acq-fast_T1w"), ["sub-03_acq-fast"]),
    ],
)
def test_a_setting_chooses_run_and_image(make: Callable[..., Path], choice: Choice, expected: list[str]) -> None:
    root = make("01_run-01_T1w", "01_run-02_T1w", "02_T1w", "02_T2w", "03_acq-fast_T1w")
    assert [case.id for case in open_cohort(root, choice).cases] == expected


def test_label_maps_of_a_run_belong_to_it_and_those_of_no_image_are_named(make: Callable[..., Path]) -> None:
    derived = ("m/01_run-2_dseg", "m/01_dseg", "m/99_dseg", "m/01_run-1_space-MNI_dseg", "m/01_run-1_mask")
    cohort = open_cohort(make("01_run-1_T1w", "01_run-2_T1w", derived=derived), Choice(run="2"))
    assert _labels(cohort) == {"sub-01_run-2": "m"}
    assert sorted(_reasons(cohort).values()) == [
        "derivatives/m/sub-01/anat/sub-01_dseg.nii.gz: the label map matches no image: none is called sub-01",
        "derivatives/m/sub-99/anat/sub-99_dseg.nii.gz: the label map matches no image: none is called sub-99",
    ]
    assert dict(cohort.ignored) == {
        "T1w images that are not chosen": 1,
        "label maps in another space": 1,
        "other images in derivatives": 1,
    }


def test_derivatives_behind_a_link_are_read(
    make: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = make("01_T1w", derived=("m/01_dseg",))
    away = tmp_path_factory.mktemp("away") / "m"
    (root / "derivatives" / "m").rename(away)
    (root / "derivatives" / "m").symlink_to(away)
    (away / "back").symlink_to(root)
    assert _labels(open_cohort(root)) == {"sub-01": "m"}


DATES = "session_id\tacq_time\nses-1\t2020-05-01\n".encode("utf-16")


@pytest.mark.parametrize("content", [b"session_id\n", b"\0\0", DATES])
def test_a_table_of_dates_never_ends_a_run(make: Callable[..., Path], content: bytes) -> None:
    root = make("01_ses-1_T1w")
    (root / "sub-01" / "sub-01_sessions.tsv").write_bytes(content)
    (case,) = open_cohort(root).cases
    assert case.date == ("2020-05-01" if content == DATES else None)


def test_what_chooses_among_files_of_bids_is_refused_for_another_layout(cohort_folder: Path) -> None:
    with pytest.raises(CohortError, match=r"cohort.image, label and run choose among the files of BIDS"):
        open_cohort(cohort_folder, Choice(label="manual"))
