"""Covariates of a conditional template: values asked for, what is known of whom."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from covoxel.atlas.conditional import CovariateError, Design
from data_catalog import Case
from tasks.conditional_covariates import asked_values, known_of
from tasks.settings import ConditionalSettings, SettingsError
from tasks.settings_file import asked_for, load_settings

DESIGN = Design.of({f"c{i}": {"age": 49.5 + 2 * i, "sex": ("F", "M/x")[i % 2]} for i in range(12)}, ["age", "sex"])


def test_values_asked_for_are_crossed_and_by_themselves_if_none_is() -> None:
    assert asked_values(DESIGN, {"age": ["60", 70.0], "sex": ["F"]}) == {
        "age-60_sex-F": {"age": 60.0, "sex": "F"},
        "age-70_sex-F": {"age": 70.0, "sex": "F"},
    }
    assert asked_values(DESIGN, {}) == {
        "age-50": {"age": 50.0},
        "age-60": {"age": 60.0},
        "age-71": {"age": 71.0},
        "sex-F": {"sex": "F"},
        "sex-M-x": {"sex": "M/x"},
    }
    with pytest.raises(CovariateError, match="age must be a number, got 'old'"):
        asked_values(DESIGN, {"age": ["old"]})
    with pytest.raises(CovariateError, match="101 combinations of values are asked for, at most 100"):
        asked_values(DESIGN, {"age": [50 + i / 10 for i in range(101)]})


def test_the_command_line_asks_beside_the_settings() -> None:
    settings = asked_for(load_settings(None), by="age, sex", at=["age=60,70", "sex=F"]).template.conditional
    assert settings.by == ["age", "sex"]
    assert settings.at == {"age": ["60", "70"], "sex": ["F"]}
    with pytest.raises(SettingsError, match="--at must be COLUMN=VALUE"):
        asked_for(load_settings(None), by="age", at=["=60"])


def test_a_case_of_which_something_is_not_known_is_named(tmp_path: Path) -> None:
    (tmp_path / "participants.tsv").write_text("participant_id\tage\tsex\n1\t60\tF\n2\tn/a\tM\n3\tn/a\tn/a\n")
    cases = [Case(f"c{n}", tmp_path / f"c{n}.nii.gz", None, "unlabelled", str(n)) for n in (1, 2, 3)]
    settings = SimpleNamespace(template=SimpleNamespace(conditional=ConditionalSettings(by=["age", "sex"])))
    study: Any = SimpleNamespace(
        call=SimpleNamespace(settings=settings, cohort=tmp_path), cohort=SimpleNamespace(cases=cases)
    )
    known, missing = known_of(study, ["c1", "c2", "c3"])
    assert known == {"c1": {"age": 60.0, "sex": "F"}}
    assert missing == {"c2": "age is not known of it", "c3": "age and sex are not known of it"}
