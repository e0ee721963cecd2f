"""Cases, roles, and the guard: a label that scores never trains."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_catalog import Case, Cohort, CohortError, EvaluationLabels, Rejected, ScoringLabelError, open_cohort
from data_catalog.schema import unsafe_id


def _case(case_id: str, **changes: object) -> Case:
    known = {"image": Path(f"{case_id}.nii"), "label": Path("l.nii"), "role": "unlabelled", "subject": case_id}
    return Case(case_id, **{**known, **changes})


def _cohort(*ids: str) -> Cohort:
    return Cohort("study", Path(), tuple(_case(case_id) for case_id in ids))


@pytest.mark.parametrize("case_id", ["a", "sub-01_ses-2", "A.b+c-d_e", "0", "x" * 100])
def test_a_plain_file_name_is_a_case_name(case_id: str) -> None:
    assert unsafe_id(case_id) is None


@pytest.mark.parametrize(
    "case_id",
    ["", "a b", "..", "a..b", "../a", "a/b", "a\\b", ".a", "-a", "é", "a\n", "a\0", "x" * 101, "a_confidence"],
)
def test_what_is_no_plain_file_name_is_refused(case_id: str) -> None:
    assert unsafe_id(case_id) is not None
    with pytest.raises(CohortError):
        _case(case_id)


@given(st.text())
def test_an_accepted_name_stays_in_its_folder(case_id: str) -> None:
    if unsafe_id(case_id) is None:
        assert (Path("/out") / f"{case_id}.nii.gz").resolve().parent == Path("/out")
        assert case_id.isascii()


def test_a_test_case_cannot_carry_a_label() -> None:
    with pytest.raises(ScoringLabelError, match="case 'a' is a test case: its label l.nii may only score"):
        _case("a", role="test")


@pytest.mark.parametrize(("role", "label"), [("test", None), ("unlabelled", Path("l.nii"))])
def test_only_an_atlas_gives_a_label_for_training(role: str, label: Path | None) -> None:
    with pytest.raises(ScoringLabelError, match=f"label of case 'a' was asked for training, but its role is '{role}'"):
        _case("a", role=role, label=label).training_label()
    assert _case("a", role="atlas").training_label() == Path("l.nii")


def test_an_atlas_has_a_label_and_a_role_is_a_known_one() -> None:
    with pytest.raises(CohortError, match="cannot be an atlas: it has no label"):
        _case("a", role="atlas", label=None)
    with pytest.raises(CohortError, match="it must be one of atlas, unlabelled, test"):
        _case("a", role="validation")


def test_names_that_differ_in_case_only_are_one_name() -> None:
    with pytest.raises(CohortError, match="two cases named 'sub-A' and 'sub-a'"):
        _cohort("sub-A", "sub-a")
    with pytest.raises(CohortError, match="two cases named 'a' and 'a'"):
        _cohort("a", "a")


def test_all_but_the_atlases_lose_their_label(cohort_folder: Path) -> None:
    cohort = open_cohort(cohort_folder).with_atlases(["c", "a"])
    assert [(case.id, case.role, case.label is not None) for case in cohort.cases] == [
        ("a", "atlas", True),
        ("b", "unlabelled", False),
        ("c", "atlas", True),
        ("d", "test", False),
    ]
    assert [case.id for case in cohort.atlases] == ["a", "c"]


def test_atlases_can_be_named_anew_only_from_the_cohort_as_read(cohort_folder: Path) -> None:
    cohort = open_cohort(cohort_folder)
    first = cohort.with_atlases(["a"])
    with pytest.raises(CohortError, match="case 'b' of cohort 'study' cannot be an atlas: it has no label"):
        first.with_atlases(["b"])
    assert cohort.with_atlases(["b"]).case("b").training_label().name == "b.nii.gz"


def test_an_atlas_that_does_not_exist_is_refused_with_the_nearest_name() -> None:
    cohort = _cohort("sub-01", "sub-02", "control")
    with pytest.raises(CohortError) as caught:
        cohort.with_atlases(["sub-01", "cntrl"])
    assert str(caught.value) == "there is no case 'cntrl' in cohort 'study'; did you mean 'control'?"
    with pytest.raises(CohortError) as caught:
        cohort.with_atlases(["qqq"])
    assert str(caught.value) == "there is no case 'qqq' in cohort 'study'; known: sub-01, sub-02, control."


def test_atlases_that_make_no_sense_are_refused(cohort_folder: Path) -> None:
    cohort = open_cohort(cohort_folder)
    with pytest.raises(CohortError, match="at least one atlas must be named"):
        cohort.with_atlases([])
    with pytest.raises(CohortError, match="atlas 'a' is named twice"):
        cohort.with_atlases(["a", "b", "a"])
    with pytest.raises(ScoringLabelError, match="case 'd' is a test case of 'study' and cannot be an atlas"):
        cohort.with_atlases(["d"])


def test_an_atlas_that_was_set_aside_is_refused_with_the_reason() -> None:
    cohort = Cohort("study", Path(), (), rejected=(Rejected("a b", Path("a b.nii"), "a b.nii: the name has a space"),))
    with pytest.raises(CohortError, match="case 'a b' of cohort 'study' was set aside: a b.nii: the name has a space"):
        cohort.with_atlases(["a b"])


def test_select_keeps_the_order_asked_for() -> None:
    assert [case.id for case in _cohort("a", "b", "c").select(["c", "a"]).cases] == ["c", "a"]


def test_the_table_has_one_row_a_case(cohort_folder: Path) -> None:
    table = open_cohort(cohort_folder).with_atlases(["a"]).table()
    assert list(table.columns) == ["id", "image", "label", "role", "subject", "session", "date"]
    assert table["role"].tolist() == ["atlas", "unlabelled", "unlabelled", "test"]
    assert table["label"].isna().tolist() == [False, True, True, True]
    assert isinstance(table, pd.DataFrame)
    assert len(Cohort("none", Path(), ()).table()) == 0


def test_true_labels_are_reached_through_scoring_alone(cohort_folder: Path, tmp_path: Path) -> None:
    assert open_cohort(cohort_folder).case("d").label is None
    truth = EvaluationLabels(cohort_folder / "labels")
    assert truth.path("d") == cohort_folder / "labels" / "d.nii.gz"
    assert "d" in truth
    assert "e" not in truth
    assert "../labels/d" not in truth
    with pytest.raises(CohortError, match="has no e.nii.gz"):
        truth.path("e")
    with pytest.raises(CohortError, match="the folder of true labels .* does not exist"):
        EvaluationLabels(tmp_path / "nowhere")
