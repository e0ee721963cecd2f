"""The section on label fusion: rules, weights, refusals, predictions, curves, and none where there are none."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import covoxel.report
from covoxel.report import (
    AtlasRow,
    CalibrationPoint,
    CaseReport,
    CurvePoint,
    LearningPoint,
    Report,
    StructureRow,
    render,
)

Read = Callable[[str], Any]
EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>{{ 7 * 7 }}"
BAD = "Its moved image resembles the case far less than the others do."
RULES = ("majority", "joint_label_fusion", "staple")


def case(number: int, dice: float | None = 0.8, rule: str = "majority", atlases: int = 4) -> CaseReport:
    """A case whose atlas 1 was left out, whose atlas k has trust k / 10 and agreement 0.5 + k / 100."""
    return CaseReport(
        f"sub_{number:03}",
        rows=(StructureRow(1, "anterior", 1.0, dice),),
        predicted_dice=0.83,
        rule=rule,
        predicted_by_rule={"majority": 0.81, "joint_label_fusion": 0.83, "staple": math.nan},
        atlases=tuple(
            AtlasRow(f"atlas_{k:02}", 0.5 + k / 100, 0.7, k / 10 % 1, BAD if k == 1 else "") for k in range(atlases)
        ),
    )


@pytest.fixture
def report() -> Report:
    cases = (*(case(i, 0.8 + i / 100, "joint_label_fusion" if i < 4 else "majority") for i in range(6)),)
    return Report(
        "t",
        cases,
        components=("select",),
        calibration=(
            CalibrationPoint("sub_000", "majority", 0.84, 0.80),
            CalibrationPoint("elsewhere", "majority", 0.80, 0.82),
            CalibrationPoint("sub_001", "staple", 0.5, 0.3, planted=True),
            CalibrationPoint("sub_001", "staple", math.nan, 0.3),
        ),
        atlas_curve=(CurvePoint(10, 0.865, 0.85, 0.88), CurvePoint(1, 0.80), CurvePoint(5, 0.86, 0.84, 0.87)),
        learning=tuple(LearningPoint(s, 1 / (s + 1), 0.5 + s / 100 if s % 5 == 0 else None) for s in range(20)),
    )


def section(page: str) -> str:
    """The markup of the section alone."""
    return page.split('<section id="fusion">')[1].split("</section>")[0]


def alone(**parts: object) -> Report:
    """A report of nothing but `parts`."""
    return Report("t", **parts)  # type: ignore[arg-type]


def test_rules_are_counted_and_every_case_names_its_own_with_its_candidates(report: Report, read: Read) -> None:
    text = read(render(report)).text
    table = text.split("Rule that made the result")[1]
    assert "joint label fusion 4 0.830 0.815 majority 2 0.810 0.845 staple 0 – –" in table
    cases = text.split("Open one to see its figures.")[1]
    assert cases.count("Fused by joint label fusion") == 4
    assert cases.count("Fused by majority") == 2
    assert cases.count("joint label fusion 0.830 chosen majority 0.810") == 4
    assert cases.count("joint label fusion 0.830 majority 0.810 chosen") == 2


def test_the_heat_map_has_a_cell_for_every_case_and_atlas(report: Report) -> None:
    heat = section(render(report)).split('<div class="heat')[1].split("</table>")[0]
    body = heat.split("<tbody>")[1]
    assert body.count("<tr>") == 6
    assert len(re.findall("<td", body)) == 24
    assert body.count('<td class="x">×</td>') == 6
    assert re.findall(r'<th scope="col" title="([^"]+)"', heat) == ["atlas_01", "atlas_00", "atlas_02", "atlas_03"]
    assert re.findall(r'title="(sub[^"]+)"', body) == [f"sub_{i:03}" for i in range(6)]
    # Trust 0, 0.2, 0.3 on a scale from 0 to 0.3; the one left out has no shade and no share in it.
    assert re.findall(r'<td class="(\w+)">([^<]*)', body)[:4] == [
        ("x", "×"),
        ("l0", ".00"),
        ("l6", ".20"),
        ("l9", ".30"),
    ]


def test_without_learned_trust_the_heat_map_shows_agreement(report: Report, read: Read) -> None:
    cases = tuple(replace(c, atlases=tuple(replace(a, trust=None) for a in c.atlases)) for c in report.cases)
    text = read(render(replace(report, cases=cases))).text
    assert "Agreement of each atlas in each case" in text
    assert "Trust" not in text
    assert "Trust of each atlas in each case" in read(render(report)).text


def test_an_atlas_that_was_not_offered_leaves_its_cell_empty_and_it_is_said(report: Report) -> None:
    first = replace(report.cases[0], atlases=report.cases[0].atlases[:-1])
    page = render(replace(report, cases=(first, *report.cases[1:])))
    assert section(page).count("<td></td>") == 1
    assert "not offered to this case" in page
    assert "not offered to this case" not in render(report)


def test_an_atlas_that_was_left_out_is_named_with_its_reasons_in_both_places(report: Report, read: Read) -> None:
    other = replace(report.cases[0].atlases[1], rejected="Its label is empty.")
    first = replace(report.cases[0], atlases=(other, *report.cases[0].atlases[2:]))
    page = render(replace(report, cases=(first, *report.cases[1:])))
    text = read(section(page)).text
    assert f"atlas_01 was left out of 6 of 6 cases. 5 cases: {BAD} 1 case: Its label is empty." in text
    cases = read(page).text.split("Open one to see its figures.")[1]
    assert cases.count(f"atlas_01 was left out. {BAD}") == 5
    assert cases.count("atlas_01 was left out. Its label is empty.") == 1


def test_many_reasons_and_many_atlases_stay_short(read: Read) -> None:
    cases = tuple(
        CaseReport(f"c{i}", atlases=tuple(AtlasRow(f"a{k}", 0.5, rejected=f"Reason {i}.") for k in range(12)))
        for i in range(7)
    )
    text = read(section(render(alone(cases=cases)))).text
    assert text.count("4 further reasons, with the cases below.") == 12
    assert "4 more" in text
    assert "of each atlas in each case" not in text, "no atlas took part, so there is nothing to shade"


def test_calibration_says_its_error_and_tells_planted_failures_apart(report: Report, read: Read) -> None:
    page = section(render(report))
    text = read(page).text
    assert "mean absolute error 0.030 over 2 predictions, on average 0.010 too high" in text
    assert "with evidence spoilt on purpose, mean absolute error 0.200 over 1 prediction" in text
    plot = next(svg for svg in page.split("<svg")[1:] if "each segmented" in svg).split("</svg>")[0]
    assert (plot.count("<circle"), plot.count("<use"), plot.count('class="identity"')) == (2, 1, 1)
    x1, y1, x2, y2 = map(
        float, re.findall(r'class="identity" x1="([\d.]+)%" y1="([\d.]+)%" x2="([\d.]+)%" y2="([\d.]+)', plot)[0]
    )
    assert (x1, x2) == (100 - y1, 100 - y2)
    low, high = (re.findall(r"0\.\d+", dot)[-2:] for dot in re.findall("<title>(.*?)</title>", plot)[:2])
    assert (low, high) == (["0.840", "0.800"], ["0.800", "0.820"])
    right_of_the_line = [
        float(x) > 100 - float(y) for x, y in re.findall(r'<circle cx="([\d.]+)%" cy="([\d.]+)%"', plot)
    ]
    assert right_of_the_line == [True, False], "predicted runs across, measured up"


def test_a_perfect_prediction_lies_on_the_line(read: Read) -> None:
    points = tuple(CalibrationPoint("a", "majority", v, v) for v in (0.31, 0.84, 0.92))
    page = section(render(alone(calibration=points)))
    dots = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)%" cy="([\d.]+)%"', page)]
    assert len(dots) == 3
    assert all(x == pytest.approx(100 - y) for x, y in dots)
    assert "neither too high nor too low" in read(page).text


def test_cases_with_true_labels_are_held_against_their_predictions(report: Report, read: Read) -> None:
    text = read(section(render(report))).text
    assert "Cases of this run, against their true labels: mean absolute error 0.015 over 6 cases" in text
    blind = tuple(replace(c, rows=()) for c in report.cases)
    assert "against their true labels: mean" not in read(section(render(replace(report, cases=blind)))).text


def test_dice_against_the_number_of_atlases_has_its_intervals(report: Report, read: Read) -> None:
    page = section(render(report))
    assert "0.800 with 1, 0.865 with 10. Bars are 95 % intervals." in read(page).text
    plot = next(svg for svg in page.split("<svg")[1:] if "number of atlases" in svg)
    assert (plot.count('class="span"'), plot.count('class="joined"'), plot.count("<circle")) == (2, 2, 3)
    across = [float(x) for x in re.findall(r'<circle cx="([\d.]+)%', plot)]
    assert across == sorted(across)


def test_a_long_training_is_thinned_and_one_that_diverged_says_so(read: Read) -> None:
    steps = tuple(LearningPoint(s, 1.0 + s if s != 7 else math.nan) for s in range(5000))
    page = section(render(alone(learning=steps)))
    assert 100 < page.count('class="joined"') < 150
    assert "diverged: its loss was not a number at 1 step, first at step 7" in read(page).text
    assert "loss 1 at step 0, 5000 at step 4999" in read(page).text
    assert "diverged" not in render(alone(learning=steps[:5]))


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"calibration": (CalibrationPoint("a", "majority", 0.8, 0.8),)}, "Atlases, each segmented from the others"),
        ({"atlas_curve": (CurvePoint(3, 0.8),)}, "number of atlases: 0.800 with 3."),
        ({"learning": (LearningPoint(0, 1.0),)}, "loss 1 at step 0."),
        ({"learning": (LearningPoint(0, math.nan),)}, "diverged"),
        ({"cases": (CaseReport("c", rule="staple"),)}, "staple 1"),
        ({"cases": (CaseReport("c", atlases=(AtlasRow("a", trust=0.5),)),)}, "Trust of each atlas"),
    ],
)
def test_each_part_stands_alone(part: dict[str, object], words: str, read: Read) -> None:
    text = read(section(render(alone(**part)))).text
    assert words in text
    parts = ("Rule that made", "of each atlas in", "Atlases, each", "number of atlases", "at step", "left out")
    assert sum(some in text for some in parts) == 1


def test_a_run_without_any_of_it_has_no_such_section() -> None:
    bare = (
        CaseReport("c", rows=(StructureRow(1, "a", 1.0, 0.8),), confidence=0.9),
        CaseReport("d", "failed", "why", rule="staple"),
    )
    page = render(Report("t", bare, components=("affine", "majority")))
    for words in ('id="fusion"', "Label fusion", "Predicted Dice", "Fused by", "of this case"):
        assert words not in page


def test_methods_name_what_the_data_tell_of(report: Report, read: Read) -> None:
    text = read(render(report)).text.split("Methods")[-1]
    for words in (
        "was kept that was best on the atlases",
        "joint label fusion: at each voxel",
        "one data parameter a pair",
        "were left out of it",
        "calibrated by leave-one-out",
        "doi:10.1109/TPAMI.2012.143",
    ):
        assert text.count(words) >= 1, words
    assert "leave-one-out" not in read(render(replace(report, calibration=()))).text.split("Methods")[-1]


def test_everything_from_outside_is_escaped(read: Read) -> None:
    atlas = AtlasRow(EVIL, 0.5, 0.5, 0.5, EVIL)
    evil = CaseReport(
        EVIL,
        rows=(StructureRow(1, "a", 1.0, 0.5),),
        predicted_dice=0.5,
        rule=EVIL,
        predicted_by_rule={EVIL: 0.5, "majority": 0.4},
        atlases=(atlas, AtlasRow(EVIL + "2", 0.6, 0.6, 0.6)),
    )
    points = (CalibrationPoint(EVIL, EVIL, 0.5, 0.5), CalibrationPoint(EVIL, EVIL, 0.5, 0.5, True))
    reader = read(render(Report("t", (evil, replace(evil, rule="majority")), calibration=points)))
    assert not {"script", "img"} & {tag for tag, _ in reader.tags}
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    assert reader.text.count("{{ 7 * 7 }}") > 10


def test_home_folders_are_not_told(read: Read) -> None:
    atlas = AtlasRow("a", 0.5, rejected="/home/jane/study/labels/a.nii.gz has no label.")
    page = render(alone(cases=(CaseReport("c", atlases=(atlas,)),)))
    assert "jane" not in page
    assert read(page).text.count("…/labels/a.nii.gz has no label.") == 2


def test_every_link_has_its_place_and_every_plot_its_words(report: Report, read: Read) -> None:
    tags = read(render(report)).tags
    places = [str(attributes["id"]) for _, attributes in tags if "id" in attributes]
    assert len(places) == len(set(places))
    assert {str(a["href"])[1:] for _, a in tags if "href" in a} <= set(places)
    assert all(attributes["aria-label"] for tag, attributes in tags if tag == "svg")


def test_three_hundred_cases_of_thirty_atlases_stay_small() -> None:
    cases = tuple(
        replace(
            case(i, 0.7 + i / 1000),
            predicted_by_rule={f"a_long_rule_{k}": 0.8 + k / 100 for k in range(6)},
            atlases=tuple(
                AtlasRow(f"hippocampus_{k:03}", 0.8, 0.7, k / 30, BAD if k == i % 30 else "") for k in range(30)
            ),
        )
        for i in range(300)
    )
    assert len(render(Report("t", cases)).encode()) < 2_000_000


@pytest.mark.parametrize("trust", [-0.1, 1.3, math.inf])
def test_a_raw_data_parameter_is_no_trust(trust: float) -> None:
    with pytest.raises(ValueError, match=rf"trust must be 0 to 1, .* got {trust}"):
        AtlasRow("a", trust=trust)


def test_numbers_on_shades_are_readable_in_light_and_dark_and_shades_rise_in_lightness_alone() -> None:
    style = (Path(covoxel.report.__file__).parent / "style.css").read_text(encoding="utf-8")
    schemes = style.split("@media (prefers-color-scheme: dark)")
    for scheme, rising in zip(schemes[:2], (-1, 1), strict=True):
        shades = [_luminance(re.findall(rf"--h{level}: (#\w+);", scheme)[0]) for level in range(10)]
        assert (np.diff(shades) * rising > 0).all(), "a shade must be told without its hue"
        low, high = (_luminance(re.findall(rf"--on-{end}: (#\w+);", scheme)[0]) for end in ("low", "high"))
        inks = [low] * 5 + [_luminance("#0d1013")] * 2 + [high] * 3
        for shade, ink in zip(shades, inks, strict=True):
            assert (max(shade, ink) + 0.05) / (min(shade, ink) + 0.05) >= 4.5


def _luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    c = np.asarray([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return float(np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])
