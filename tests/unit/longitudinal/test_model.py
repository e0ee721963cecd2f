"""The mixed model: finds what was put in, and says what it left out."""

import numpy as np
import pandas as pd
import pytest

from covoxel.longitudinal import fit_model, percent_of


def study(subjects: int, visits: int = 4, noise: float = 0.005, seed: int = 0) -> pd.DataFrame:
    """Group b loses 3 % a year more than a, which loses 1 %; older ones have less at the start."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(subjects):
        group, age = "ab"[number % 2], 60 + rng.uniform(0, 20)
        start = 8.5 - 0.01 * (age - 60) + rng.normal(0, 0.05)
        slope = np.log(0.99) + (np.log(0.97) if group == "b" else 0) + rng.normal(0, 0.005)
        for visit in range(visits):
            t = visit + rng.uniform(-0.2, 0.2) * (visit > 0)
            volume = np.exp(start + slope * t + rng.normal(0, noise))
            rows.append(
                {"subject": f"s{number}", "years": t, "volume_mm3": volume, "group": group, "age at start": age}
            )
    return pd.DataFrame(rows)


def test_it_finds_the_change_of_each_group_and_the_effect_of_age() -> None:
    fitted = fit_model(study(24), ["age at start"], "group")
    assert fitted.kind == "random intercept and slope"
    assert (fitted.subjects, fitted.visits) == (24, 96)
    effects = {effect.term: effect for effect in fitted.effects}
    assert percent_of(effects["years"].estimate) == pytest.approx(-1.0, abs=0.5)
    assert percent_of(effects["years:group[b]"].estimate) == pytest.approx(-3.0, abs=0.7)
    assert effects["years:group[b]"].p < 1e-6
    assert effects["age at start"].low < -0.01 < effects["age at start"].high


def test_a_missing_covariate_costs_that_subject_alone_and_is_told() -> None:
    table = study(12)
    table.loc[table["subject"] == "s3", "age at start"] = np.nan
    fitted = fit_model(table, ["age at start"])
    assert fitted.subjects == 11
    assert "age at start is missing for 1 subjects, who take no part: s3" in fitted.notes


def test_too_few_subjects_have_no_model_and_one_covariate_for_all_no_effect() -> None:
    few = fit_model(study(3))
    assert few.kind == "none"
    assert few.notes == ("no model: 3 subjects have visits at two times or more, 4 are needed",)
    same = fit_model(study(12).assign(site="one"), ["site"])
    assert "site is the same for all and takes no part" in same.notes
    assert {effect.term for effect in same.effects} == {"Intercept", "years"}


def test_no_scatter_at_all_ends_in_a_simpler_model_or_none_and_a_sentence() -> None:
    table = pd.DataFrame({"subject": s, "years": float(t), "volume_mm3": 100.0} for s in "abcdef" for t in range(3))
    fitted = fit_model(table)
    assert fitted.kind != "random intercept and slope"
    assert any("was not taken" in note for note in fitted.notes)


def test_visits_without_time_or_volume_take_no_part() -> None:
    table = study(12)
    table.loc[0, "years"] = np.nan
    table.loc[1, "volume_mm3"] = 0.0
    assert fit_model(table).visits == len(table) - 2


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="table must have the column 'sex', it has subject"):
        fit_model(study(4), ["sex"])
