"""Every folder of a DICOM tree becomes a case or is excluded with a sentence."""

import shutil
from pathlib import Path

import pytest

from data_catalog import check_case, load_image, open_cohort, sha256_of
from data_catalog.choice import Choice
from data_catalog.files import files_of
from data_catalog.readers import dicom
from data_catalog.schema import Cohort, CohortError
from tests.unit.dicom_files import make_slice, values, write, write_series


def ids(cohort: Cohort) -> list[str]:
    return [case.id for case in cohort.cases]


def reasons(cohort: Cohort) -> dict[str, str]:
    return {item.id: item.reason for item in cohort.rejected}


def test_previews_before_the_slices_hide_no_series(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "p1" / "t1", name="z{:03d}.dcm")
    for number in range(40):
        (folder / f"a{number:02d}.jpg").write_bytes(b"\xff\xd8")
        (folder / f"b{number:02d}").write_bytes(b"text without suffix")
    (write_series(tmp_path / "p2", "1.2.2") / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    assert ids(open_cohort(tmp_path)) == ["p1-t1", "p2"]


def test_files_without_preamble_are_a_case(tmp_path: Path) -> None:
    for file in write_series(tmp_path / "p1").iterdir():
        file.write_bytes(file.read_bytes()[132:])
    cohort = open_cohort(tmp_path)
    assert ids(cohort) == ["p1"]
    assert check_case(cohort.cases[0]).reason is None


def test_a_damaged_series_is_excluded_and_no_other(tmp_path: Path) -> None:
    (write_series(tmp_path / "p1" / "t1") / "005.dcm").write_bytes(b"")
    write_series(tmp_path / "p2" / "t1", "1.2.2")
    (tmp_path / "p3").mkdir()
    for number in range(3):
        (tmp_path / "p3" / f"{number}.dcm").write_bytes(b"")
    cohort = open_cohort(tmp_path)
    assert ids(cohort) == ["p2-t1"]
    rule = "is empty; it is named like a slice, and a slice must be a whole DICOM file"
    assert reasons(cohort) == {
        "p1-t1": f"p1/t1/005.dcm {rule}",
        "p3": f"p3/0.dcm {rule} (and 2 more such files)",
    }


def test_a_copy_and_another_series_below_leave_a_series_alone(tmp_path: Path) -> None:
    shutil.copytree(write_series(tmp_path / "p1"), tmp_path / "p1" / "old")
    write_series(tmp_path / "p2", "1.2.2")
    write_series(tmp_path / "p2" / "t2", "1.2.3")
    cohort = open_cohort(tmp_path)
    assert ids(cohort) == ["p1", "p2", "p2-t2"]
    assert [check_case(case).reason for case in cohort.cases] == [None] * 3
    assert not cohort.rejected


def test_a_series_in_folders_side_by_side_is_one_case_of_the_folder_above(tmp_path: Path) -> None:
    write_series(tmp_path / "p1" / "a", numbers=range(0, 6, 2))
    write_series(tmp_path / "p1" / "b", numbers=range(1, 6, 2))
    write_series(tmp_path / "p2", "1.2.2")
    cohort = open_cohort(tmp_path)
    assert ids(cohort) == ["p1", "p2"]
    case = cohort.cases[0]
    assert (load_image(case.image).data.numpy() == values()).all()
    assert len(files_of(case.image)) == 6
    before = sha256_of(case.image)
    write(tmp_path / "p1" / "b" / "003.dcm", make_slice(3, PixelData=bytes(60)))
    assert sha256_of(case.image) != before


def test_a_split_series_beside_another_one_is_excluded(tmp_path: Path) -> None:
    write_series(tmp_path / "p1" / "a", numbers=range(3))
    write_series(tmp_path / "p1" / "b", numbers=range(3, 6))
    write_series(tmp_path / "p1" / "c", "1.2.2")
    cohort = open_cohort(tmp_path)
    assert ids(cohort) == ["p1-c"]
    rule = "all of its slices must lie in one folder"
    assert reasons(cohort) == {
        f"p1-{own}": f"p1/{own}: the folder holds a part of a series that goes on in p1/{other}; {rule}"
        for own, other in ("ab", "ba")
    }


def test_whole_and_partial_copies_elsewhere(tmp_path: Path) -> None:
    write_series(tmp_path / "p1")
    write_series(tmp_path / "p2")
    write_series(tmp_path / "p3", numbers=range(4))
    cohort = open_cohort(tmp_path)
    assert ids(cohort) == ["p1", "p2"]  # that they are the same is found by their voxels
    assert reasons(cohort) == {"p3": "p3: the folder holds 4 of the 6 slices of the series in p1"}


def test_two_scans_under_one_number_are_two_cases(tmp_path: Path) -> None:
    for number, person in enumerate(("p1", "p2")):
        for k in range(6):
            item = make_slice(
                k, SOPInstanceUID=f"1.2.{number}.{k + 1}", ImagePositionPatient=[number, 0, 2 * k + number]
            )
            write(tmp_path / person / f"{k}.dcm", item)
    assert ids(open_cohort(tmp_path)) == ["p1", "p2"]


def test_several_series_in_one_folder_are_named(tmp_path: Path) -> None:
    write_series(tmp_path / "p1", SeriesDescription="T1")
    write_series(tmp_path / "p1", "1.2.2", range(4), name="b{}.dcm", SeriesDescription="FLAIR")
    write_series(tmp_path / "p2", "1.2.3")
    cohort = open_cohort(tmp_path)
    assert ids(cohort) == ["p2"]
    assert "holds 2 DICOM series (T1, 6 slices; FLAIR, 4 slices); each must lie" in reasons(cohort)["p1"]


def test_closed_folders_and_other_images_are_excluded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path / "p1")
    (tmp_path / "p1" / "seg.nii.gz").write_bytes(b"x")
    (tmp_path / "p2").mkdir()
    from covoxel.io import dicom_folder

    real = dicom_folder.os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "p2":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(dicom_folder.os, "scandir", scandir)
    cohort = open_cohort(tmp_path)
    assert ids(cohort) == ["p1"]
    found = reasons(cohort)
    assert found["p2"] == "p2 cannot be opened: Permission denied"
    assert found["p1-seg"].startswith("p1/seg.nii.gz is an image of another format in a folder tree of DICOM")


def test_names_of_people_can_be_left_out(tmp_path: Path) -> None:
    write_series(tmp_path / "Doe_Jane" / "visit1")
    write_series(tmp_path / "Doe_Jane" / "visit2", "1.2.2")
    (write_series(tmp_path / "Roe_Richard", "1.2.3") / "002.dcm").write_bytes(b"")
    cohort = dicom.read(tmp_path, ids="hash")
    assert len({case.subject for case in cohort.cases}) == 1
    assert len(set(ids(cohort))) == 2
    shown = [*ids(cohort), *(case.subject for case in cohort.cases), *reasons(cohort), *reasons(cohort).values()]
    assert len(shown) == 6
    assert not any(name in text for text in shown for name in ("Doe", "Roe", "Jane", "Richard"))
    (tmp_path / "Doe_Jane").rename(tmp_path / "Poe_Edgar")
    assert ids(dicom.read(tmp_path, ids="hash")) == ids(cohort)  # of the series, not of its folder


def test_the_choice_of_a_cohort_reaches_the_names(tmp_path: Path) -> None:
    write_series(tmp_path / "d" / "Doe_Jane")
    assert ids(open_cohort(tmp_path / "d", Choice(ids="hash"))) == ids(dicom.read(tmp_path / "d", ids="hash"))
    table = tmp_path / "t.csv"
    table.write_text("image\nd/Doe_Jane\n")
    with pytest.raises(CohortError, match=r"cohort\.ids names DICOM cases"):
        open_cohort(table, Choice(ids="hash"))


def test_a_folder_of_other_images_with_a_damaged_slice_is_no_dicom(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"x")
    (tmp_path / "b.dcm").write_bytes(b"")
    assert not dicom.detect(tmp_path)
    (tmp_path / "a.nii.gz").unlink()
    assert dicom.detect(tmp_path)
