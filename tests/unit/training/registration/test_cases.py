"""Cases: what does not belong together is refused by name, and another cohort has another fingerprint."""

from dataclasses import replace

import pytest
import torch

from covoxel.training.registration.cases import TrainingCase, check_cases, fingerprint
from tests.unit.training.registration.toys import shifted_cases

CASES = shifted_cases((6, 7), 2, labelled=True)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"image": torch.zeros(6)}, "image must be 2-D or 3-D"),
        ({"mask": torch.ones(6, 6, dtype=torch.bool)}, r"mask must have shape \(6, 7\)"),
        ({"mask": torch.ones(6, 7)}, "mask must be boolean"),
        ({"mask": torch.zeros(6, 7, dtype=torch.bool)}, "somewhere true"),
        ({"labels": torch.zeros(6, 7)}, "labels must be of an integer type"),
        ({"labels": torch.zeros(7, 6, dtype=torch.int64)}, r"labels must have shape \(6, 7\)"),
        ({"image": torch.full((6, 7), torch.nan)}, "every intensity must be finite"),
    ],
)
def test_a_case_that_does_not_fit_is_refused(change: dict[str, object], rule: str) -> None:
    with pytest.raises(ValueError, match=f"case p0v0: .*{rule}"):
        replace(CASES[0], **change)


def test_cases_that_do_not_fit_one_another_are_refused() -> None:
    other = TrainingCase("wide", torch.zeros(6, 8), torch.ones(6, 8, dtype=torch.bool))
    for cases, values, rule in (
        ([], 0, "at least one"),
        ([*CASES, CASES[1]], 0, "p0v1 occurs twice"),
        ([*CASES, other], 0, r"one frame: case wide is \(6, 8\), p0v0 is \(6, 7\)"),
        (CASES, 1, "case p0v0: labels must be places 0 to 0, found 0 to 1"),
    ):
        with pytest.raises(ValueError, match=rule):
            check_cases(cases, values)
    check_cases(CASES, 2)


def test_any_change_of_a_voxel_changes_the_fingerprint() -> None:
    changed = [replace(CASES[0], image=CASES[0].image + 1e-6), *CASES[1:]]
    relabelled = [replace(CASES[0], labels=None), *CASES[1:]]
    prints = {fingerprint(cases) for cases in (CASES, changed, relabelled, CASES[:3], CASES[::-1])}
    assert len(prints) == 5
    assert fingerprint(CASES) == fingerprint(list(CASES))
