"""A cohort of others is confined to its folder, links resolved; one's own may name what it likes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from data_catalog import Choice, CohortError, open_cohort

Scan = Callable[..., Path]

UNTRUSTED = Choice(trusted=False)
SENTENCE = "the file lies outside of the cohort's folder, which the setting cohort.trusted forbids"


@pytest.fixture
def table(tmp_path: Path, scan: Scan, label: Scan) -> Path:
    """Table whose rows lead out of its folder in all ways."""
    root = tmp_path / "theirs"
    scan(root / "in.nii.gz")
    label(root / "label.nii.gz")
    scan(tmp_path / "out.nii.gz")
    label(tmp_path / "secret.nii.gz")
    (root / "link.nii.gz").symlink_to("../out.nii.gz")
    (root / "up").symlink_to("..")
    (root / "within.nii.gz").symlink_to("in.nii.gz")
    rows = [
        "id,image,label,role",
        "inside,in.nii.gz,label.nii.gz,atlas",
        "within,within.nii.gz,,",
        "dots,../out.nii.gz,,",
        f"whole,{tmp_path}/out.nii.gz,,",
        "link,link.nii.gz,,",
        "folder,up/out.nii.gz,,",
        "label,in.nii.gz,../secret.nii.gz,atlas",
        "unused,in.nii.gz,../secret.nii.gz,",
    ]
    (root / "cases.csv").write_text("\n".join(rows) + "\n")
    return root / "cases.csv"


def test_a_table_of_ones_own_may_name_any_file(table: Path) -> None:
    cohort = open_cohort(table)
    assert len(cohort.cases) == 8
    assert not cohort.rejected


def test_a_table_of_others_is_confined_to_its_folder(table: Path) -> None:
    cohort = open_cohort(table, UNTRUSTED)
    assert [case.id for case in cohort.cases] == ["inside", "within", "unused"]
    assert cohort.case("unused").label is None
    assert {item.id for item in cohort.rejected if item.of_case == ""} == {"dots", "whole", "link", "folder", "label"}
    assert all(item.reason.endswith(SENTENCE) for item in cohort.rejected)
    with pytest.raises(CohortError, match=SENTENCE):
        cohort.with_atlases(["unused"])


@pytest.mark.parametrize("place", ["images/b.nii.gz", "sub-2/anat/sub-2_T1w.nii.gz"])
def test_links_in_a_folder_of_others_do_not_lead_out_of_it(tmp_path: Path, scan: Scan, place: str) -> None:
    scan(tmp_path / "out.nii.gz")
    root = tmp_path / "theirs"
    scan(root / place.replace("b.", "a.").replace("sub-2", "sub-1"))
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).symlink_to(tmp_path / "out.nii.gz")
    assert len(open_cohort(root).cases) == 2
    cohort = open_cohort(root, UNTRUSTED)
    assert len(cohort.cases) == 1
    assert [item.reason for item in cohort.rejected] == [f"{place}: {SENTENCE}"]


@pytest.mark.parametrize("name", ["labels.tsv", "split.json", "participants.tsv"])
def test_descriptions_of_others_do_not_lead_out_of_their_folder(cohort_folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "out").write_text("index\tname\n1\tA\n" if name.endswith("tsv") else "{}")
    (cohort_folder / name).unlink(missing_ok=True)
    (cohort_folder / name).symlink_to(tmp_path / "out")
    assert open_cohort(cohort_folder).cases
    with pytest.raises(CohortError, match=f"{name} is a link that leads out of the cohort's folder"):
        open_cohort(cohort_folder, UNTRUSTED)
