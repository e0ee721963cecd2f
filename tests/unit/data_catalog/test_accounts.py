"""Every layout accounts for all that lies in it: nothing vanishes, and one bad entry hides no other."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from data_catalog import Cohort, CohortError, open_cohort

Scan = Callable[..., Path]
Make = Callable[[Path], Path]


def _reasons(cohort: Cohort) -> dict[str, str]:
    return {item.id: item.reason for item in cohort.rejected}


def _ids(cohort: Cohort) -> list[str]:
    return [case.id for case in cohort.cases]


def _nnunet(root: Path, **changes: object) -> None:
    content = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "A": 1}, "file_ending": ".nii.gz", **changes}
    (root / "dataset.json").write_text(json.dumps(content))


PLACES = {
    "folder": ("images/{}.nii.gz", None),
    "flat": ("{}.nii.gz", None),
    "nnunet": ("imagesTr/{}_0000.nii.gz", _nnunet),
    "bids": ("sub-{0}/anat/sub-{0}_T1w.nii.gz", None),
    "bids with sessions": ("sub-{0}/ses-1/anat/sub-{0}_ses-1_T1w.nii.gz", None),
}


def _bad_pipe(path: Path) -> None:
    os.mkfifo(path)


def _bad_link(path: Path) -> None:
    path.symlink_to("../../.git/annex/objects/xx/MD5E-s1--0.nii.gz")


def _bad_loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("layout", PLACES)
@pytest.mark.parametrize("spoil", [_bad_link, _bad_loop, _bad_pipe, Path.touch])
def test_an_unusable_image_is_excluded_under_the_name_of_its_case(
    tmp_path: Path, scan: Scan, layout: str, spoil: Callable[[Path], None]
) -> None:
    place, describe = PLACES[layout]
    scan(tmp_path / place.format("one"))
    bad = tmp_path / place.format("two")
    bad.parent.mkdir(parents=True, exist_ok=True)
    spoil(bad)
    if describe:
        describe(tmp_path)
    cohort = open_cohort(tmp_path)
    assert _ids(cohort) == [_ids(cohort)[0]]
    assert "one" in _ids(cohort)[0]
    (name,) = _reasons(cohort)
    assert name == _ids(cohort)[0].replace("one", "two")
    assert cohort.rejected[0].reason.startswith(place.format("two"))
    with pytest.raises(CohortError, match="was set aside: "):
        cohort.with_atlases([name])


@pytest.mark.parametrize(
    ("layout", "closed"),
    [
        ("folder", "labels"),
        ("folder", "images/deep"),
        ("folder", "more"),
        ("flat", "deep"),
        ("nnunet", "labelsTr"),
        ("nnunet", "imagesTs"),
        ("bids", "sub-two"),
        ("bids", "sub-two/anat"),
        ("bids", "derivatives"),
        ("bids", "derivatives/manual"),
        ("bids", "derivatives/manual/sub-one"),
        ("bids with sessions", "sub-two"),
        ("bids with sessions", "sub-two/ses-1"),
        ("bids with sessions", "sub-two/ses-1/anat"),
    ],
)
def test_a_closed_folder_is_named_and_hides_nothing_else(
    tmp_path: Path, scan: Scan, close: Callable[[Path], None], layout: str, closed: str
) -> None:
    place, describe = PLACES[layout]
    scan(tmp_path / place.format("one"))
    (tmp_path / closed).mkdir(parents=True, exist_ok=True)
    close(tmp_path / closed)
    if describe:
        describe(tmp_path)
    cohort = open_cohort(tmp_path)
    assert len(cohort.cases) == 1
    assert f"{closed}: the folder cannot be read: Permission denied" in _reasons(cohort).values()


@pytest.mark.parametrize("closed", ["", "images", "sub-1/anat"])
def test_a_cohort_that_is_closed_altogether_is_one_sentence(
    tmp_path: Path, close: Callable[[Path], None], closed: str
) -> None:
    (tmp_path / closed).mkdir(parents=True, exist_ok=True)
    close(tmp_path / closed)
    with pytest.raises(CohortError, match=r"Permission denied|no images were found") as caught:
        open_cohort(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_cohort_accounts_for_all_its_entries(tmp_path: Path, scan: Scan, label: Scan) -> None:
    for name in ("images/a", "images/b", "images/c", "images/sub/x", "masks/a", "truth/a", "top"):
        scan(tmp_path / f"{name}.nii.gz")
    label(tmp_path / "labels" / "a.nii.gz").rename(tmp_path / "labels" / "a.NII.GZ")
    label(tmp_path / "labels" / "b.nii.gz")
    label(tmp_path / "labels" / "b.nii")
    label(tmp_path / "labels" / "a_seg.nii.gz")
    (tmp_path / "labels" / "c.nii").symlink_to("nowhere")
    (tmp_path / "images" / "._a.nii.gz").write_bytes(b"left by a Mac")
    cohort = open_cohort(tmp_path)
    assert _ids(cohort) == ["a", "b", "c"]
    assert [case.label and case.label.name for case in cohort.cases] == ["a.NII.GZ", None, None]
    reasons = _reasons(cohort)
    assert reasons["labels/a_seg"] == ("labels/a_seg.nii.gz: the label map matches no image: none is called a_seg")
    assert "labels/b.nii and labels/b.nii.gz; none is used" in reasons["b (label maps)"]
    assert reasons["images/sub"].startswith("images/sub: the folder holds 1 image that is not read")
    assert reasons["masks"].endswith("images must lie directly in images/, their label maps in labels/")
    assert "top.nii.gz" in reasons[tmp_path.name]
    assert len(reasons) == 6
    assert dict(cohort.ignored) == {"hidden files": 1, "folder truth": 1}
    assert str(cohort.count) == (
        "11 entries seen, 3 cases, 6 excluded, 2 ignored on purpose (1 folder truth, 1 hidden files)"
    )
    with pytest.raises(CohortError, match=r"cannot be an atlas: labels/c.nii: the link leads to nowhere"):
        cohort.with_atlases(["c"])
    with pytest.raises(CohortError, match="cannot be an atlas: labels/b.nii: it is one of several label maps"):
        cohort.with_atlases(["b"])


def test_a_folder_in_use_for_something_else_is_not_counted(tmp_path: Path, scan: Scan) -> None:
    scan(tmp_path / "images" / "a.nii")
    scan(tmp_path / "gold" / "labels" / "a.nii")
    assert list(_reasons(open_cohort(tmp_path))) == ["gold/labels"]
    assert not open_cohort(tmp_path, aside=[tmp_path / "gold"]).rejected


def test_a_flat_cohort_names_subfolders_and_label_maps_of_one_image(tmp_path: Path, scan: Scan, label: Scan) -> None:
    for name in ("a", "b", "sub/deeper/c"):
        scan(tmp_path / f"{name}.nii.gz")
    label(tmp_path / "a_seg.nii.gz")
    label(tmp_path / "a_dseg.nii.gz")
    label(tmp_path / "b_label.nii")
    cohort = open_cohort(tmp_path)
    assert [(case.id, case.label and case.label.name) for case in cohort.cases] == [("a", None), ("b", "b_label.nii")]
    assert set(_reasons(cohort)) == {"a (label maps)", "sub/deeper"}


def test_two_formats_of_one_name_are_one_case_and_one_sentence(tmp_path: Path, scan: Scan) -> None:
    scan(tmp_path / "images" / "a.nii.gz")
    (tmp_path / "images" / "a.mgz").write_bytes(b"x")
    cohort = open_cohort(tmp_path)
    assert [case.image.name for case in cohort.cases] == ["a.mgz"]
    assert _reasons(cohort) == {
        "images/a.nii.gz": "images/a.nii.gz: the case name 'a' is already taken by images/a.mgz; "
        "each case must have its own name"
    }


def test_nnunet_cases_without_a_first_channel_or_of_another_ending_are_named(
    tmp_path: Path, scan: Scan, label: Scan
) -> None:
    for name in ("Tr/a_0000", "Tr/a_0001", "Tr/b_0001", "Tr/b_0002", "Tr/d_0001", "Ts/t_0001", "Val/v_0000"):
        scan(tmp_path / f"images{name}.nii.gz")
    scan(tmp_path / "imagesTr" / "c_0000.nii")
    (tmp_path / "imagesTr" / "d_0000.nii.gz").symlink_to("nowhere")
    for name in ("Tr/a", "Tr/b", "Tr/z", "Ts/t"):
        label(tmp_path / f"labels{name}.nii.gz")
    _nnunet(tmp_path)
    cohort = open_cohort(tmp_path)
    reasons = _reasons(cohort)
    assert _ids(cohort) == ["a"]
    assert reasons["b"] == (
        "imagesTr/b_0001.nii.gz: the first channel, 0000, of case b is missing (there is 0001, 0002)"
    )
    assert reasons["c"] == "imagesTr/c_0000.nii: the file ends in .nii, but dataset.json names the file_ending .nii.gz"
    assert reasons["t"].startswith("imagesTs/t_0001.nii.gz: the first channel, 0000, of case t is missing")
    assert reasons["labelsTr/z"] == "labelsTr/z.nii.gz: the label map matches no image: none is called z"
    assert set(reasons) == {"b", "c", "d", "t", "labelsTr/z", "imagesVal"}
    assert dict(cohort.ignored) == {"further channels": 2, "folder labelsTs": 1}


def test_files_that_a_decathlon_task_does_not_list_and_those_that_are_unusable_are_named(
    tmp_path: Path, scan: Scan, label: Scan
) -> None:
    for name in ("Tr/a", "Tr/u", "Ts/t", "Other/o"):
        scan(tmp_path / f"images{name}.nii.gz")
    label(tmp_path / "labelsTr" / "a.nii.gz")
    label(tmp_path / "labelsTr" / "w.nii.gz")
    os.mkfifo(tmp_path / "imagesTr" / "p.nii.gz")
    training = [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}, {"image": "./imagesTr/p.nii.gz"}]
    (tmp_path / "dataset.json").write_text(json.dumps({"training": training, "test": ["imagesTs/gone.nii.gz"]}))
    cohort = open_cohort(tmp_path)
    assert _ids(cohort) == ["a"]
    assert sorted(_reasons(cohort).values()) == [
        "dataset.json: the file './imagesTr/p.nii.gz' is listed, but it is a named pipe; an image must be a regular "
        "file",
        "dataset.json: the file 'imagesTs/gone.nii.gz' is listed but does not exist",
        "imagesOther: the folder holds 1 image that is not read (imagesOther/o.nii.gz); images must lie in the folders "
        "that dataset.json names",
        "imagesTr/u.nii.gz: the file is not listed in dataset.json",
        "imagesTs/t.nii.gz: the file is not listed in dataset.json",
        "labelsTr/w.nii.gz: the file is not listed in dataset.json",
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"file_ending": ".nii.gz", "labels": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"labels": ' + "1" * 5000 + "}", "is not valid JSON"),
        ('{"a": "' + "x" * 2**25 + '"}', "bytes; a description of a cohort must have at most 33554432"),
        ("{" * 100_000, "is not valid JSON"),
    ],
)
def test_a_description_that_is_too_deep_or_too_large_is_one_sentence(
    tmp_path: Path, scan: Scan, content: str, sentence: str
) -> None:
    scan(tmp_path / "imagesTr" / "a_0000.nii.gz")
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(CohortError) as caught:
        open_cohort(tmp_path)
    assert sentence in str(caught.value)
    assert "dataset.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_that_are_no_text_are_excluded_and_can_be_written(tmp_path: Path, scan: Scan) -> None:
    scan(tmp_path / "a.nii")
    for name in (b"b\xff.nii", b"c\nd.nii", b"\x1b[31m.nii"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    cohort = open_cohort(tmp_path)
    assert _ids(cohort) == ["a"]
    assert set(_reasons(cohort)) == {"b\\udcff", "c\\x0ad", "\\x1b[31m"}
    for item in cohort.rejected:
        assert (item.id + item.reason).encode("utf-8").isascii()
        assert "\n" not in item.reason


@pytest.mark.parametrize("name", ["labels", "labelsTr", "masks", "Segmentations"])
def test_a_folder_of_label_maps_is_not_taken_for_images(tmp_path: Path, scan: Scan, label: Scan, name: str) -> None:
    beside = "imagesTr" if name.endswith("Tr") else "images"
    for case in "ab":
        scan(tmp_path / beside / f"{case}.nii.gz")
        label(tmp_path / name / f"{case}.nii.gz")
    with pytest.raises(CohortError) as caught:
        open_cohort(tmp_path / name)
    assert str(caught.value) == (
        f"{tmp_path / name} holds label maps, not images; name the folder that holds both {beside}/ and {name}/: "
        f"{tmp_path}"
    )


def test_a_folder_of_label_maps_is_recognised_by_its_content_and_images_among_them_are_taken(
    tmp_path: Path, scan: Scan, label: Scan
) -> None:
    for case in "abcd":
        label(tmp_path / f"{case}.nii.gz")
    with pytest.raises(CohortError, match=r"holds label maps, not images: a.nii.gz has whole numbers of at most 64"):
        open_cohort(tmp_path)
    scan(tmp_path / "b.nii.gz")
    assert _ids(open_cohort(tmp_path)) == ["a", "b", "c", "d"]


def test_the_folder_of_images_of_few_whole_numbers_beside_label_maps_is_taken(tmp_path: Path, scan: Scan) -> None:
    scan(tmp_path / "images" / "a.nii.gz")
    assert _ids(open_cohort(tmp_path / "images")) == ["a"]
