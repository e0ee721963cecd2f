"""What cannot be drawn costs its place on the page and nothing else; odd numbers are drawn."""

import io
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from covoxel.report import (
    AtlasRow,
    CalibrationPoint,
    CaseReport,
    CurvePoint,
    Gap,
    Guard,
    JointPoint,
    JointReport,
    LearningPoint,
    LongitudinalReport,
    Report,
    Stage,
    StructureChange,
    StructureRow,
    Trace,
    case_figures,
    render,
    render_longitudinal,
)
from covoxel.report.plots import Axis
from covoxel.spatial import Grid, Image, Transform

Read = Callable[[str], Any]
NUMBERS = [0.0, -0.0, 0.5, 1.0, 1e-13, 5e-324, 1e300, 1e308, math.nan, math.inf, -math.inf]


def picture() -> bytes:
    stream = io.BytesIO()
    Picture.new("RGB", (90, 34)).save(stream, "WEBP")
    return stream.getvalue()


def case(name: str, value: float, structures: int = 2, **more: Any) -> CaseReport:
    rows = tuple(StructureRow(n + 1, f"part {n}", value, value, value) for n in range(structures))
    numbers = dict.fromkeys(("predicted_dice", "folded_percent", "sd_log_jacobian", "seconds", "agreement"), value)
    rules = {"predicted_by_rule": {"staple": value, "majority": value}, "rule": "staple"}
    atlases = (
        AtlasRow("a1", likeness=value, agreement=value, trust=value if 0 <= value <= 1 else None),
        AtlasRow("a2", agreement=value),
    )
    figures = {"figures": {"overlay": picture()}, "atlases": atlases, "spread": value, "candidate": "fusion"}
    return CaseReport(name, rows=rows, **{**numbers, **rules, **figures, **more})


def report_of(cases: list[CaseReport], value: float = 0.5) -> Report:
    return Report(
        "A study",
        tuple(cases),
        stages=(Stage("fuse", value, 1, 0), Stage("register", 0.0)),
        components=("affine", "majority"),
        calibration=(CalibrationPoint("a1", "staple", value, value),),
        atlas_curve=(CurvePoint(1, value, value, value), CurvePoint(2, value)),
        learning=(LearningPoint(0, value), LearningPoint(1, value)),
        joint=JointReport("r", curve=(JointPoint("loss", 0, value),), alphas={"u": (((1.0, value), (value, 1.0)),)}),
    )


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize(("cases", "structures"), [(0, 0), (1, 0), (1, 1), (7, 2)])
def test_odd_numbers_and_few_of_them_are_drawn_without_a_gap(
    value: float, cases: int, structures: int, read: Read
) -> None:
    guard = Guard()
    page = render(report_of([case(f"c{n}", value, structures) for n in range(cases)], value), guard=guard)
    assert guard.gaps == []
    assert "nan%" not in page
    assert "inf%" not in page
    assert "A study" in read(page).text


def test_all_numbers_at_once_are_drawn_without_a_gap(read: Read) -> None:
    guard = Guard()
    page = render(report_of([case(f"c{n}", value) for n, value in enumerate(NUMBERS)]), guard=guard)
    assert guard.gaps == []
    assert read(page).count("details", "case") == len(NUMBERS)


def test_an_axis_is_never_without_length() -> None:
    values = [0.0, 1e-300, 1e-13, -1e-13, 1e-7, 0.5, 1.0, 1.2, -3.0, 1e17, 1e17 + 16, 1e308, math.nan, math.inf]
    for chosen in itertools.chain.from_iterable(itertools.product(values, repeat=count) for count in range(3)):
        for most, least in itertools.product((None, 1.0), (None, 0.0)):
            axis = Axis.around(chosen, most=most, least=least)
            assert -math.inf < axis.low < axis.high < math.inf
            assert 1 <= len(axis.ticks) <= 8
            assert all(0 <= axis.at(value) <= 100 for value in chosen if math.isfinite(value))


def test_an_axis_over_ordinary_values_has_round_ticks() -> None:
    assert Axis.around([0.71, 0.93], most=1.0).ticks == (0.7, 0.8, 0.9, 1.0)
    assert Axis.around([0.0, 1e-13], least=0.0).low == 0
    assert Axis.around([2e-8, 4e-8]).ticks == (2e-8, 2.5e-8, 3e-8, 3.5e-8, 4e-8)


PARTS = {
    "covoxel.report.page._cards": "Headline numbers could not be drawn: KeyError",
    "covoxel.report.page._dice": "The Dice of structures could not be drawn: KeyError",
    "covoxel.report.page._volume": "The volumes of part 0 could not be drawn: KeyError",
    "covoxel.report.page._regularity": "Folded voxels could not be drawn: KeyError",
    "covoxel.report.plots.scatter": "A plot of all cases could not be drawn: KeyError",
    "covoxel.report.page.fusion_of": "The section on label fusion could not be drawn: KeyError",
    "covoxel.report.page.joint_of": "The section on networks could not be drawn: KeyError",
    "covoxel.report.page._stages": "The times of stages could not be drawn: KeyError",
    "covoxel.report.page.describe": "The methods could not be drawn: KeyError",
    "covoxel.report.fusion_page.heat_map": "The worth of each atlas could not be drawn: KeyError",
    "covoxel.report.fusion_page.against": "A plot of predicted against measured Dice could not be drawn: KeyError",
    "covoxel.report.fusion_page.curve": "The Dice against the number of atlases could not be drawn: KeyError",
    "covoxel.report.joint_page._agreement": "The agreement of networks could not be drawn: KeyError",
    "covoxel.report.joint_page._unit": "Stitch unit u could not be drawn: KeyError",
    "covoxel.report.pictures._picture": "Segmentation of case c0 could not be drawn: KeyError",
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_fails_is_a_sentence_and_the_others_are_there(
    part: str, monkeypatch: pytest.MonkeyPatch, read: Read
) -> None:
    report = report_of([case(f"c{n}", 0.5 + n / 20) for n in range(7)])
    whole = read(render(report))

    def fail(*given: object, **named: object) -> None:
        raise KeyError("<script>/home/someone/secret/place/x</script>")

    monkeypatch.setattr(part, fail)
    guard = Guard()
    page = render(report, guard=guard)
    found = read(page)
    assert PARTS[part] in found.text
    assert "<script>" not in page
    assert "/home/someone" not in page
    assert "fail" in guard.tracebacks
    assert found.count("details", "case") == whole.count("details", "case") == 7
    assert found.count("section") >= whole.count("section") - 1
    for heading in ("Volumes", "Transforms", "Time", "Cases", "Methods", "Label fusion", "Networks"):
        assert heading in found.text


def test_a_page_that_fails_as_a_whole_still_names_the_cases(monkeypatch: pytest.MonkeyPatch, read: Read) -> None:
    def fail(*given: object) -> None:
        raise MemoryError

    monkeypatch.setattr("covoxel.report.page.views_of", fail)
    bad = CaseReport("c9", "failed", "no <b> header")
    guard = Guard()
    text = read(render(replace(report_of([case("c1", 0.5, flags=("small",)), bad])), guard=guard)).text
    assert "The page could not be drawn: not enough memory for this case" in text
    assert "c1 done small" in text
    assert "c9 failed no <b> header" in text
    assert len(guard.gaps) == 1


@pytest.mark.parametrize("data", [b"", b"no picture", b"RIFF\x00\x00", None])
def test_bytes_that_are_no_picture_leave_a_sentence(data: bytes | None, read: Read) -> None:
    data = picture()[:20] if data is None else data
    found = read(render(report_of([case("c1", 0.5, figures={"grid": data, "overlay": picture()}, gaps=("Why.",))])))
    assert "Deformation of case c1 could not be drawn:" in found.text
    assert "Why." in found.text
    assert found.count("img") == 1


def test_a_figure_that_fails_costs_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object) -> None:
        raise ZeroDivisionError("division by zero")

    grid = Grid.from_spacing((12, 14, 10))
    image = Image(torch.rand(grid.shape), grid)
    transform = Transform(grid, np.eye(4), torch.rand(3, *grid.shape))
    given: dict[str, Any] = {"confidence": image, "moved": image, "transform": transform}
    monkeypatch.setattr("covoxel.report.figures.log_jacobian", fail)
    guard = Guard()
    labels = Image((image.data > 0.5).long(), grid)
    assert list(case_figures(image, labels, **given, guard=guard)) == ["overlay", "checkerboard", "confidence", "grid"]
    assert guard.gaps == [Gap("Change of volume could not be drawn: ZeroDivisionError: division by zero.")]
    with pytest.raises(ZeroDivisionError):
        case_figures(image, labels, **given)
    monkeypatch.setattr("covoxel.report.case.choose_planes", fail)
    guard = Guard()
    assert case_figures(image, labels, **given, guard=guard) == {}
    assert guard.gaps == [Gap("The figures could not be drawn: ZeroDivisionError: division by zero.")]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 30, 20), (30, 1, 1), (2, 2, 2), (1, 1), (1, 40), (200, 1, 3)])
@pytest.mark.parametrize("value", [0.0, math.nan, math.inf, -math.inf, 3e38])
def test_figures_of_thin_and_odd_images_are_drawn(shape: tuple[int, ...], value: float) -> None:
    grid = Grid.from_spacing(shape)
    image, guard = Image(torch.full(shape, value), grid), Guard()
    labels = Image(torch.ones(shape, dtype=torch.int64), grid)
    transform = Transform(grid, np.eye(len(shape) + 1), torch.rand(len(shape), *shape))
    drawn = case_figures(image, labels, confidence=image, moved=image, transform=transform, guard=guard)
    assert guard.tracebacks == ""
    assert len(drawn) == 5


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_a_picture_that_fails_is_one_of_the_sentence(form: str) -> None:
    guard = Guard()
    data = guard.picture("The history", lambda: [][0], form)
    with Picture.open(io.BytesIO(data)) as drawn:
        assert drawn.format == form
        assert np.asarray(drawn.convert("L")).max() > 150
    assert guard.gaps == [Gap("The history could not be drawn: IndexError: list index out of range.")]
    assert guard.picture("The history", lambda: b"drawn", form) == b"drawn"


@pytest.mark.parametrize("value", [0.0, 1e-13, 1e300, math.nan, math.inf])
def test_a_longitudinal_page_has_gaps_too(value: float, monkeypatch: pytest.MonkeyPatch, read: Read) -> None:
    traces = (Trace("s1", ((0.0, value), (1.0, value))), Trace("s2", ((value, 100.0), (2.0, 90.0))))
    report = LongitudinalReport("Change", structures=(StructureChange("part", traces),), maps={"s1": b"broken"})
    guard = Guard()
    text = read(render_longitudinal(report, guard)).text
    assert len(guard.gaps) == 1
    assert "Change of volume of case s1 could not be drawn: ValueError: the bytes are no image." in text

    def fail(*given: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("covoxel.report.longitudinal.spaghetti", fail)
    assert "The plot of part could not be drawn: ZeroDivisionError" in read(render_longitudinal(report)).text
