"""The first line of a call says what was asked for."""

import pytest

from flows.first_line import write_first_line


@pytest.mark.parametrize(
    ("call", "line"),
    [
        ("few-shot --cohort c --atlases a --output o", "covoxel 0.1.0: few-shot, cohort c, output o\n"),
        ("register --output=o --workers 2", "covoxel 0.1.0: register, output o\n"),
        ("deploy --stop", "covoxel 0.1.0: deploy\n"),
        ("preprocess --output", "covoxel 0.1.0: preprocess\n"),
        ("few-shot --help", ""),
        ("settings", ""),
        ("--help", ""),
        ("", ""),
    ],
)
def test_verb_cohort_and_output_are_named_where_no_help_is_asked_for(
    capsys: pytest.CaptureFixture[str], call: str, line: str
) -> None:
    write_first_line(call.split())
    assert capsys.readouterr() == ("", line)
