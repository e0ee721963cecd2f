"""A picture or a section that cannot be drawn costs its place on the page, and neither a case nor the exit status."""

from pathlib import Path

import pytest

from covoxel.io import read_table
from tests.flows.test_few_shot import Invoke, MakeCohort, content, few_shot


@pytest.mark.parametrize("engine", ["affine", "identity"])
def test_transforms_without_a_displacement_have_a_page(
    invoke: Invoke, make_cohort: MakeCohort, quick_settings: Path, tmp_path: Path, engine: str
) -> None:
    output = tmp_path / "out"
    quick_settings.write_text(f"register: {{engine: {engine}}}\nfuse: {{rule: majority}}\n")
    assert invoke(*few_shot(make_cohort(cases=3), output, quick_settings))[0] == 0
    assert "could not be drawn" not in (output / "report" / "index.html").read_text()
    assert not list((output / ".covoxel" / "errors").glob("*"))


def test_what_fails_is_a_sentence_and_its_traceback_is_kept(
    invoke: Invoke,
    make_cohort: MakeCohort,
    quick_settings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*given: object, **named: object) -> None:
        raise ZeroDivisionError("division by zero")

    cohort, output = make_cohort(cases=4), tmp_path / "out"
    run = few_shot(cohort, output, quick_settings, "--evaluate", tmp_path / "cohort-truth")
    with monkeypatch.context() as patch:
        patch.setattr("covoxel.report.figures.checkerboard", fail)
        patch.setattr("covoxel.report.page._volume", fail)
        status, text, _ = invoke(*run)
    assert status == 0
    assert "4 done, 0 failed" in text
    page, errors = (output / "report" / "index.html").read_text(), output / ".covoxel" / "errors"
    assert page.count("Case and moved image could not be drawn: ZeroDivisionError: division by zero.") == 2
    assert page.count("The volumes of ") == 2
    assert "Dice of each structure" in page
    assert page.count("<img") == 4
    assert list(read_table(output / "cases.tsv")["flags"].dropna()) == []
    assert {path.name for path in errors.glob("*.txt")} == {"figures_c3.txt", "figures_c4.txt", "report.txt"}
    assert all("ZeroDivisionError" in path.read_text() for path in errors.glob("*.txt"))

    first = content(output)
    assert invoke(*run)[0] == 0
    assert content(output) == first
    page = (output / "report" / "index.html").read_text()
    assert "The volumes of " not in page
    assert page.count("Case and moved image could not be drawn") == 2
    assert not (errors / "report.txt").exists()
