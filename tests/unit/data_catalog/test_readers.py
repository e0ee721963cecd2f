"""Each layout is recognised by its content, and nothing that is read is trusted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data_catalog import Cohort, CohortError, check_case, expected_ndim, load_image, open_cohort
from data_catalog.readers import READERS

Scan = Callable[..., Path]


def _shown(cohort: Cohort) -> dict[str, tuple[str, str | None, str]]:
    """Image, label and role by case, file names relative to the cohort."""
    return {
        case.id: (
            case.image.relative_to(cohort.root).as_posix(),
            case.label.relative_to(cohort.root).as_posix() if case.label else None,
            case.role,
        )
        for case in cohort.cases
    }


def _reader_of(path: Path) -> str:
    return next(name for name, reader in READERS.items() if reader.detect(path))


def test_a_folder_cohort(cohort_folder: Path) -> None:
    (cohort_folder / "labels.tsv").write_text("index\tname\n0\tbackground\n2\tposterior\n1\tanterior\n")
    (cohort_folder / "images" / "._a.nii.gz").write_bytes(b"left by a Mac")
    (cohort_folder / "labels" / "c.nii.gz").unlink()
    cohort = open_cohort(cohort_folder)
    assert _reader_of(cohort_folder) == "folder"
    assert cohort.name == "study"
    assert cohort.label_names == {1: "anterior", 2: "posterior"}
    assert _shown(cohort) == {
        "a": ("images/a.nii.gz", "labels/a.nii.gz", "unlabelled"),
        "b": ("images/b.nii.gz", "labels/b.nii.gz", "unlabelled"),
        "c": ("images/c.nii.gz", None, "unlabelled"),
        "d": ("images/d.nii.gz", None, "test"),
    }


def test_a_split_that_is_no_list_is_refused(cohort_folder: Path) -> None:
    (cohort_folder / "split.json").write_text('{"test": "a"}')
    with pytest.raises(CohortError, match="split.json: 'test' must be a list of case names, got a"):
        open_cohort(cohort_folder)
    (cohort_folder / "split.json").write_text("{")
    with pytest.raises(CohortError, match="split.json is not valid JSON"):
        open_cohort(cohort_folder)


def test_plain_files_in_a_folder(tmp_path: Path, scan: Scan, label: Scan) -> None:
    for name in ("sub-01_ses-a_T1w.nii.gz", "sub-02.nii", "other_seg.nii.gz"):
        scan(tmp_path / name)
    label(tmp_path / "sub-01_ses-a_dseg.nii.gz")
    cohort = open_cohort(tmp_path)
    assert _reader_of(tmp_path) == "flat"
    assert _shown(cohort) == {
        "other_seg": ("other_seg.nii.gz", None, "unlabelled"),
        "sub-01_ses-a_T1w": ("sub-01_ses-a_T1w.nii.gz", "sub-01_ses-a_dseg.nii.gz", "unlabelled"),
        "sub-02": ("sub-02.nii", None, "unlabelled"),
    }
    assert [(case.subject, case.session) for case in cohort.cases] == [
        ("other_seg", ""),
        ("sub-01", "ses-a"),
        ("sub-02", ""),
    ]


def _decathlon(root: Path, scan: Scan, label: Scan, **changes: object) -> Path:
    for name in ("h_1", "h_2"):
        scan(root / "imagesTr" / f"{name}.nii.gz")
        label(root / "labelsTr" / f"{name}.nii.gz")
    scan(root / "imagesTs" / "h_3.nii.gz")
    description = {
        "name": "Hippocampus",
        "licence": "CC-BY-SA 4.0",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in ("h_1", "h_2")
        ],
        "test": ["./imagesTs/h_3.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps({**description, **changes}))
    return root


def test_a_decathlon_task(tmp_path: Path, scan: Scan, label: Scan) -> None:
    cohort = open_cohort(_decathlon(tmp_path, scan, label))
    assert _reader_of(tmp_path) == "decathlon"
    assert (cohort.name, cohort.licence) == ("Hippocampus", "CC-BY-SA 4.0")
    assert cohort.label_names == {1: "Anterior", 2: "Posterior"}
    assert _shown(cohort) == {
        "h_1": ("imagesTr/h_1.nii.gz", "labelsTr/h_1.nii.gz", "unlabelled"),
        "h_2": ("imagesTr/h_2.nii.gz", "labelsTr/h_2.nii.gz", "unlabelled"),
        "h_3": ("imagesTs/h_3.nii.gz", None, "test"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "../secret.nii.gz",
        "imagesTr/../../secret.nii.gz",
        "/etc/secret.nii.gz",
        "C:\\secret.nii.gz",
        "..\\secret.nii.gz",
    ],
)
def test_a_description_cannot_lead_out_of_its_folder(tmp_path: Path, scan: Scan, label: Scan, name: str) -> None:
    scan(tmp_path / "secret.nii.gz")
    pair = {"image": "imagesTr/h_1.nii.gz", "label": "labelsTr/h_1.nii.gz"}
    root = _decathlon(tmp_path / "task", scan, label, training=[pair, {"image": name}, {**pair, "label": name}])
    cohort = open_cohort(root)
    assert [case.id for case in cohort.cases] == ["h_1", "h_3"]
    sentence = f"dataset.json: the file name {name!r} leads out of the cohort's folder; it must stay in it"
    assert [item.reason for item in cohort.rejected] == [
        sentence,
        sentence,
        "imagesTr/h_2.nii.gz: the file is not listed in dataset.json",
        "labelsTr/h_2.nii.gz: the file is not listed in dataset.json",
    ]


def test_what_a_description_lists_wrongly_is_set_aside(tmp_path: Path, scan: Scan, label: Scan) -> None:
    training = [{"image": "imagesTr/h_1.nii.gz"}, {"image": "gone.nii.gz"}, {"image": 3}, None]
    cohort = open_cohort(_decathlon(tmp_path, scan, label, training=training, test={}, labels=["x"], name=5))
    assert list(_shown(cohort)) == ["h_1"]
    assert [item.reason for item in cohort.rejected] == [
        "dataset.json: the file 'gone.nii.gz' is listed but does not exist",
        "dataset.json: a file name must be text, got 3",
        "dataset.json: a file name must be text, got None",
        "imagesTr/h_2.nii.gz: the file is not listed in dataset.json",
        "imagesTs/h_3.nii.gz: the file is not listed in dataset.json",
        "labelsTr/h_1.nii.gz: the file is not listed in dataset.json",
        "labelsTr/h_2.nii.gz: the file is not listed in dataset.json",
    ]
    assert cohort.label_names == {}


def test_nnunet_raw_data(tmp_path: Path, scan: Scan, label: Scan, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("imagesTr/c_1_0000", "imagesTr/c_1_0001", "imagesTr/c_2_0000", "imagesTs/c_3_0000"):
        scan(tmp_path / f"{name}.nii.gz")
    label(tmp_path / "labelsTr" / "c_1.nii.gz")
    description = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "whole": [1, 2], "core": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    cohort = open_cohort(tmp_path)
    assert _reader_of(tmp_path) == "nnunet"
    assert cohort.label_names == {1: "whole", 2: "core"}
    assert _shown(cohort) == {
        "c_1": ("imagesTr/c_1_0000.nii.gz", "labelsTr/c_1.nii.gz", "unlabelled"),
        "c_2": ("imagesTr/c_2_0000.nii.gz", None, "unlabelled"),
        "c_3": ("imagesTs/c_3_0000.nii.gz", None, "test"),
    }
    assert "has 2 channels; the first, T1, is used" in caplog.text


def test_bids(tmp_path: Path, scan: Scan, label: Scan) -> None:
    scan(tmp_path / "sub-01" / "ses-a" / "anat" / "sub-01_ses-a_T1w.nii.gz")
    scan(tmp_path / "sub-01" / "ses-a" / "anat" / "sub-01_ses-a_T2w.nii.gz")
    scan(tmp_path / "sub-01" / "ses-b" / "anat" / "sub-01_ses-b_T1w.nii.gz")
    scan(tmp_path / "sub-02" / "anat" / "sub-02_run-1_T1w.nii.gz")
    derived = tmp_path / "derivatives" / "manual"
    label(derived / "sub-01" / "ses-a" / "anat" / "sub-01_ses-a_desc-manual_dseg.nii.gz")
    label(derived / "sub-02" / "anat" / "sub-02_run-1_space-MNI152_dseg.nii.gz")
    (derived / "dseg.tsv").write_text("index\tname\n1\tputamen\n")
    (tmp_path / "dataset_description.json").write_text('{"Name": "Ageing", "License": "CC0"}')
    (tmp_path / "sub-01" / "sub-01_sessions.tsv").write_text(
        "session_id\tacq_time\nses-a\t2020-05-01T10:00:00\nses-b\tn/a\n"
    )
    cohort = open_cohort(tmp_path)
    assert _reader_of(tmp_path) == "bids"
    assert (cohort.name, cohort.licence, cohort.label_names) == ("Ageing", "CC0", {1: "putamen"})
    assert [(case.id, case.subject, case.session, case.date) for case in cohort.cases] == [
        ("sub-01_ses-a", "sub-01", "ses-a", "2020-05-01"),
        ("sub-01_ses-b", "sub-01", "ses-b", None),
        ("sub-02_run-1", "sub-02", "", None),
    ]
    assert [case.label.name if case.label else None for case in cohort.cases] == [
        "sub-01_ses-a_desc-manual_dseg.nii.gz",
        None,
        None,
    ]


@pytest.mark.parametrize(("suffix", "mark"), [(".csv", ","), (".tsv", "\t")])
def test_a_table(tmp_path: Path, scan: Scan, label: Scan, suffix: str, mark: str) -> None:
    scan(tmp_path / "scans" / "Müller 1.nii.gz")
    scan(tmp_path / "scans" / "b.nii.gz")
    label(tmp_path / "l.nii.gz")
    rows = [
        ["id", "image", "label", "role", "subject", "session", "date"],
        ["p1", "scans/Müller 1.nii.gz", "l.nii.gz", "atlas", "s1", "v1", "2020-01-02"],
        ["", str(tmp_path / "scans" / "b.nii.gz"), "n/a", "", "", "", ""],
        ["p3", "scans/b.nii.gz", "l.nii.gz", "test", "", "", ""],
        ["p4", "scans/gone.nii.gz", "", "", "", "", ""],
        ["p5", "scans/b.nii.gz", "", "atlas", "", "", ""],
        ["p6", "", "", "", "", "", ""],
        ["p7", "scans/b.nii.gz", "", "king", "", "", ""],
        ["P1", "scans/b.nii.gz", "", "", "", "", ""],
    ]
    table = tmp_path / f"cohort{suffix}"
    table.write_text("\ufeff" + "\n".join(mark.join(row) for row in rows) + "\n", encoding="utf-8")
    cohort = open_cohort(table)
    assert cohort.name == "cohort"
    assert [(case.id, case.role, case.label is not None, case.subject, case.date) for case in cohort.cases] == [
        ("p1", "atlas", True, "s1", "2020-01-02"),
        ("b", "unlabelled", False, "b", None),
        ("p3", "test", False, "p3", None),
    ]
    assert [item.reason for item in cohort.rejected] == [
        f"cohort{suffix}, line 5: the file 'scans/gone.nii.gz' does not exist (looked for from the table's folder)",
        f"cohort{suffix}, line 6: an atlas must have a label; the column 'label' is empty",
        f"cohort{suffix}, line 7: the column 'image' is empty; it must name a file",
        f"cohort{suffix}, line 8: the role is 'king'; it must be one of atlas, unlabelled, test",
        "scans/b.nii.gz: the case name 'P1' is already taken by scans/Müller 1.nii.gz; "
        "each case must have its own name",
    ]


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"file\na.nii\n", "must have a column 'image' with file names; it has: file"),
        (b"", "must be a table with one header line, got an empty file"),
        (b"image,labels\na.nii,b.nii\n", "has an unknown column 'labels'; did you mean 'label'?"),
        (b"image\n\xff\0\n", "must be a table of text, but it holds bytes that are no text"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, content: bytes, rule: str) -> None:
    table = tmp_path / "cohort.csv"
    table.write_bytes(content)
    with pytest.raises(CohortError) as caught:
        open_cohort(table)
    assert rule in str(caught.value)
    assert str(table) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("scan 1", "letters A-Z, digits"),
        ("Müller", "letters A-Z, digits"),
        ("患者", "letters A-Z, digits"),
        ("a..b", "two dots in a row"),
        ("x" * 120, "at most 100 characters, this one has 120"),
    ],
)
def test_a_name_that_is_no_plain_file_name_is_set_aside_and_the_others_are_not(
    cohort_folder: Path, scan: Scan, name: str, rule: str
) -> None:
    scan(cohort_folder / "images" / f"{name}.nii.gz")
    cohort = open_cohort(cohort_folder)
    assert [case.id for case in cohort.cases] == ["a", "b", "c", "d"]
    (rejected,) = cohort.rejected
    assert rejected.id == name
    assert rejected.reason.startswith(f"images/{name}.nii.gz: the name {name!r} cannot be used: a case name must ")
    assert rejected.reason.endswith("; rename the file or give it an id in a table")
    assert rule in rejected.reason


def test_two_names_that_differ_in_case_only_cannot_both_be_used(cohort_folder: Path, scan: Scan) -> None:
    scan(cohort_folder / "images" / "A.nii")
    (rejected,) = open_cohort(cohort_folder).rejected
    assert rejected.reason == (
        "images/a.nii.gz: the case name 'a' is already taken by images/A.nii; each case must have its own name"
    )


def test_a_folder_without_images_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(CohortError) as caught:
        open_cohort(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"no images were found in the folder {tmp_path}; looked for: ")
    for layout in ("BIDS", "nnU-Net", "Decathlon", "DICOM", "images/", "plain .nii"):
        assert layout in message
    (tmp_path / "images").mkdir()
    with pytest.raises(CohortError, match="no images were found"):
        open_cohort(tmp_path)


def test_what_is_no_cohort_is_refused(tmp_path: Path, scan: Scan) -> None:
    with pytest.raises(CohortError, match="nowhere does not exist; name a folder of images or a .csv or .tsv table"):
        open_cohort(tmp_path / "nowhere")
    with pytest.raises(CohortError, match=r"a.nii.gz is a file, but neither a .csv nor a .tsv table"):
        open_cohort(scan(tmp_path / "a.nii.gz"))
    (tmp_path / "empty" / "imagesTr").mkdir(parents=True)
    (tmp_path / "empty" / "dataset.json").write_text('{"channel_names": {}, "file_ending": ".nii.gz"}')
    with pytest.raises(CohortError, match="looks like nnU-Net raw data .* but no image was found in it"):
        open_cohort(tmp_path / "empty")


def test_a_description_that_is_no_json_is_no_layout(tmp_path: Path, scan: Scan) -> None:
    scan(tmp_path / "a.nii.gz")
    for content in ("[", "[" * 100_000, "[1]", '{"training": 5}'):
        (tmp_path / "dataset.json").write_text(content)
        assert _reader_of(tmp_path) == "flat"


def test_the_hippocampus_set(data_folder: Path) -> None:
    cohort = open_cohort(data_folder / "hippocampus")
    split = json.loads((data_folder / "hippocampus" / "split.json").read_text())
    roles = cohort.table()["role"]
    assert len(cohort.cases) == 200
    assert not cohort.rejected
    assert (roles == "test").sum() == 36
    few_shot = cohort.with_atlases(split["atlases"][:10])
    assert sorted(case.id for case in few_shot.atlases) == sorted(split["atlases"][:10])
    assert few_shot.table()["label"].notna().sum() == 10
    with pytest.raises(CohortError, match="is a test case of 'hippocampus' and cannot be an atlas"):
        cohort.with_atlases(split["test"][:1])


def test_a_dicom_patient(data_folder: Path, tmp_path: Path) -> None:
    cohort = open_cohort(data_folder / "dicom")
    assert [case.id for case in cohort.cases] == [f"PGBM-003-{s}" for s in ("FLAIRreg", "T1post", "T1prereg", "T2reg")]
    assert {case.subject for case in cohort.cases} == {"PGBM-003"}
    assert expected_ndim(cohort) == 3
    case = cohort.case("PGBM-003-T2reg")
    checked = check_case(case, None, 3)
    assert checked.reason is None
    assert checked.shape == load_image(case.image).grid.shape == (280, 320, 22)
    shutil.copytree(case.image, tmp_path / "P1" / "mixed")
    assert [case.id for case in open_cohort(tmp_path).cases] == ["P1-mixed"]
    whole = open_cohort(tmp_path / "P1" / "mixed")
    assert [case.id for case in whole.cases] == ["mixed"]
    for file in cohort.case("PGBM-003-T1post").image.iterdir():
        shutil.copy(file, tmp_path / "P1" / "mixed" / f"other-{file.name}")
    cohort = open_cohort(tmp_path)
    assert not cohort.cases
    assert [item.reason for item in cohort.rejected] == [
        "P1/mixed: the folder holds 2 DICOM series (T2_reg, 22 slices; T1post, 22 slices); "
        "each must lie in its own folder"
    ]
