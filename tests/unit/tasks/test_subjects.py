"""Subjects and participants: names that sort oddly or are unsafe, dates, and what is known of whom."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_catalog import Case
from data_catalog.schema import unsafe_id
from tasks.participants import covariates_of, participants_of
from tasks.settings import FewShotSettings, SettingsError
from tasks.subjects import NO_DATE, day_of, flag_dates, natural, safe_keys, subjects_of


def case(name: str, subject: str, date: str | None = None, role: Any = "unlabelled", session: str = "") -> Case:
    label = Path("l.nii.gz") if role == "atlas" else None
    return Case(name, Path("i.nii.gz"), label, role, subject, session, date)


def study_of(*cases: Case, settings: dict[str, Any] | None = None, cohort: Path = Path()) -> Any:
    """As much of a study as subjects are made of."""
    flags: dict[str, list[str]] = {}
    return SimpleNamespace(
        selected=cases,
        cohort=SimpleNamespace(cases=cases),
        is_sound=lambda name: name != "broken",
        flags=flags,
        flag=lambda name, remark: flags.setdefault(name, []).append(remark),
        call=SimpleNamespace(settings=FewShotSettings(longitudinal=settings or {}), cohort=cohort),
    )


def test_subjects_sort_as_people_count_and_visits_by_date() -> None:
    study = study_of(
        case("c", "sub-10", "2021-01-01"),
        case("a", "sub-10", "2023-01-01"),
        case("b", "sub-10"),
        case("d", "sub-2", "2021-01-01"),
        case("atlas", "sub-1", role="atlas"),
        case("broken", "sub-2", "2022-01-01"),
    )
    two, ten = subjects_of(study)
    assert (two.name, two.ids) == ("sub-2", ("d",))
    assert (ten.name, ten.ids) == ("sub-10", ("c", "a", "b"))
    assert ten.years == {"c": 0.0, "a": pytest.approx(2.0, abs=0.01)}
    assert natural("sub-9") < natural("sub-10")
    assert natural("s1") != natural("s01x")


def test_every_name_becomes_a_file_name_of_its_own() -> None:
    names = ["s1", "S1", "../../etc", "Ünal, A", "", "s2"]
    keys = safe_keys(names)
    assert keys["s2"] == "s2"
    assert len({key.lower() for key in keys.values()}) == len(names)
    assert all(unsafe_id(key) is None for key in keys.values())


def test_a_visit_without_a_date_or_with_none_is_told_and_not_guessed() -> None:
    study = study_of(case("a", "s", "2021-02-30"), case("b", "s"), case("c", "s", "2021-02-03"), case("d", "alone"))
    assert day_of(study.selected[0]) is None
    flag_dates(study)
    assert study.flags == {
        "b": [NO_DATE],
        "a": [
            "the date must be year-month-day, such as 2024-03-01, got '2021-02-30'; it takes no part in rates of change"
        ],
    }


def test_participants_are_found_by_subject_and_by_visit(tmp_path: Path) -> None:
    table = "participant_id\tsession\tage\tscanner\nsub-1\tn/a\t70\tA\nsub-1\tses-2\tn/a\tB\n2\tn/a\tn/a\tA\n"
    (tmp_path / "participants.tsv").write_text(table)
    study = study_of(settings={"covariates": ["age"], "group": "scanner"}, cohort=tmp_path)
    known = participants_of(study)
    assert covariates_of(known, "sub-1", "ses-1") == {"age": 70.0, "scanner": "A"}
    assert covariates_of(known, "sub-1", "2") == {"age": 70.0, "scanner": "B"}
    assert covariates_of(known, "sub-2", "") == {"scanner": "A"}
    assert covariates_of(known, "sub-3", "") == {}


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        ("participant_id\tages\nsub-1\t70\n", "participants.tsv has no column 'age'; did you mean 'ages'"),
        ("id\tage\nsub-1\t70\n", "participants.tsv has no column 'participant_id'"),
        ("participant_id\tage\nsub-1\t70\nsub-1\t71\n", "participants.tsv has 'sub-1' twice"),
        (None, "longitudinal.covariates or group ask for age, and the table participants.tsv cannot be read"),
    ],
)
def test_a_table_that_lacks_what_is_asked_for_is_refused(table: str | None, rule: str, tmp_path: Path) -> None:
    if table is not None:
        (tmp_path / "participants.tsv").write_text(table)
    with pytest.raises(SettingsError, match=rule):
        participants_of(study_of(settings={"covariates": ["age"]}, cohort=tmp_path))
