"""The page: says what a careful reader needs, trusts nobody's text, needs nothing from outside."""

import io
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image as Picture

from covoxel.report import CaseReport, Report, Stage, StructureRow, render

EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>{{ 7 * 7 }}"
Read = Callable[[str], Any]


def picture(size: tuple[int, int] = (90, 34)) -> bytes:
    stream = io.BytesIO()
    Picture.new("RGB", size, (40, 80, 120)).save(stream, "WEBP")
    return stream.getvalue()


def case(name: str, dice: float | None = None, **more: object) -> CaseReport:
    rows = (StructureRow(1, "anterior", 1.5, dice, 0.9), StructureRow(2, "posterior", 1.25, dice, 0.8))
    return CaseReport(name, **{"rows": rows, **more})  # type: ignore[arg-type]


@pytest.fixture
def report() -> Report:
    done = [
        case(f"case-{i:02}", 0.8 + i / 100, folded_percent=0.001 * i, figures={"overlay": picture()}) for i in range(11)
    ]
    bad = CaseReport("case-99", "set aside", "The image case-99.nii.gz is constant.")
    return Report(
        "A study",
        (*done, bad),
        stages=(Stage("register", 600.0, 100, 10), Stage("fuse", 60.0, 0, 11)),
        components=("affine", "svf", "majority"),
        versions={"covoxel": "0.1.0"},
        settings={"register": {"engine": "svf"}},
    )


def test_dice_has_its_tail_beside_its_mean(report: Report, read: Read) -> None:
    text = read(render(report)).text
    assert "Dice, mean 0.850 p5 0.805 min 0.800 n 11" in text
    assert "mean 0.850 p5 0.805 min 0.800 n 11" in text.split("Dice of each structure")[1]
    assert "The background is never counted" in text


def test_background_cannot_enter() -> None:
    with pytest.raises(ValueError, match="background is never a structure"):
        StructureRow(0, "background", dice=0.999)


def test_interpolation_methods_settings_and_versions_are_said(report: Report, read: Read) -> None:
    text = read(render(report)).text
    for words in (report.interpolation, "stationary velocity field", "doi:10.1016/j.neuroimage.2007.07.007"):
        assert words in text
    assert "register.engine svf" in text
    assert "covoxel 0.1.0" in text


def test_a_case_without_a_result_comes_first_with_its_reason(report: Report, read: Read) -> None:
    text = read(render(report)).text
    assert text.index("1 case without a result") < text.index("Dice of each structure")
    assert "The image case-99.nii.gz is constant." in text
    assert "11 of 12 1 set aside" in text


def test_cases_run_from_the_worst_to_the_best(report: Report, read: Read) -> None:
    cases = read(render(report)).text.split("Open one to see its figures.")[1]
    order = re.findall(r"case-\d\d(?= (?:set aside|0\.\d+ Dice))", cases)
    assert order == ["case-99", *(f"case-{i:02}" for i in range(11))]


def test_without_true_labels_the_order_is_by_prediction_then_confidence(read: Read) -> None:
    cases = (
        case("sure"),
        case("unsure", confidence=0.5),
        case("predicted-bad", predicted_dice=0.3, confidence=0.99),
    )
    page = read(render(Report("t", cases))).text
    listed = page.split("Open one to see its figures.")[1]
    assert listed.index("predicted-bad") < listed.index("unsure") < listed.index(" sure ")
    assert "Dice of each structure" not in page
    assert "0.300 predicted Dice" in page


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_a_missing_dice_is_a_dash_and_no_zero(nothing: float | None, read: Read) -> None:
    row = StructureRow(1, "a", 2.0, nothing)
    text = read(render(Report("t", (CaseReport("c", rows=(row, StructureRow(2, "b", 2.0, 0.9))),)))).text
    assert "a – – 2.00" in text
    assert "Dice, mean 0.900" in text


def test_everything_from_outside_is_escaped(read: Read) -> None:
    evil = CaseReport(
        EVIL,
        EVIL,
        EVIL,
        EVIL,
        flags=(EVIL,),
        rows=(StructureRow(1, EVIL, 1.0, 0.5, 0.5),),
        figures={EVIL: picture()},
    )
    fine = CaseReport(EVIL, rows=evil.rows, flags=(EVIL,), confidence=0.5, figures=evil.figures)
    page = render(
        Report(
            EVIL,
            (evil, *[fine] * 8),
            cohort=EVIL,
            created=EVIL,
            stages=(Stage(EVIL, 1.0),),
            components=(EVIL,),
            interpolation=EVIL,
            settings={EVIL: EVIL, "x": {EVIL: [EVIL]}},
            versions={EVIL: EVIL, "covoxel": EVIL},
            device=EVIL,
            notes=(EVIL,),
        )
    )
    reader = read(page)
    assert "script" not in {tag for tag, _ in reader.tags}
    assert all(str(attributes["src"]).startswith("data:image/") for tag, attributes in reader.tags if tag == "img")
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    assert "{{ 7 * 7 }}" in reader.text


def test_nothing_is_fetched_and_no_script_may_run(report: Report, read: Read) -> None:
    page = render(report)
    policy = [a["content"] for t, a in read(page).tags if t == "meta" and a.get("http-equiv")]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", page)
    assert "url(" not in page
    assert "@import" not in page


def test_every_link_has_its_place_and_every_picture_its_words(report: Report, read: Read) -> None:
    tags = read(render(report)).tags
    places = [str(attributes["id"]) for _, attributes in tags if "id" in attributes]
    assert len(places) == len(set(places))
    links = {str(a["href"])[1:] for tag, a in tags if tag == "a"}
    assert links
    assert links <= set(places)
    for tag, attributes in tags:
        if tag == "img":
            assert attributes["alt"]
            assert (attributes["loading"], attributes["decoding"]) == ("lazy", "async")
            assert (attributes["width"], attributes["height"]) == ("90", "34")
        if tag == "svg":
            assert attributes["aria-label"]


def test_home_folders_are_not_told(report: Report, read: Read) -> None:
    reason = (
        "'/home/jane doe/study/images/a.nii.gz' and /data/jane/images/b.nii.gz: voxel is NaN; see https://a.org/b/c/d"
    )
    bad = CaseReport("c", "failed", reason)
    page = render(Report("t", (bad,), notes=(reason,), settings={"cohort": "/home/jane/study/x"}))
    assert "jane" not in page
    text = read(page).text
    assert "'…/images/a.nii.gz' and …/images/b.nii.gz: voxel is NaN; see https://a.org/b/c/d" in text


def test_figures_beyond_the_budget_are_left_out_from_the_best_case_and_it_is_said(report: Report, read: Read) -> None:
    cost = len(picture()) * 4 / 3 + 40
    page = render(report, figure_budget_bytes=int(cost * 3))
    shown = [attributes["alt"] for tag, attributes in read(page).tags if tag == "img"]
    assert shown == [f"Segmentation of case case-0{i}" for i in range(3)]
    assert page.count("are left out to keep the page small") == 8


def test_bytes_that_are_no_image_are_left_out() -> None:
    page = render(Report("t", (case("c", figures={"overlay": b"GIF89a no", "grid": picture()}),)))
    assert page.count("<img") == 1


def test_folds_are_never_rounded_to_none(read: Read) -> None:
    text = read(render(Report("t", (case("c", folded_percent=1e-6),)))).text
    assert "< 0.001 %" in text
    assert "Folded voxels 0 %" not in text


def test_an_empty_cohort_and_a_bare_case_give_a_page(read: Read) -> None:
    assert "0 of 0" in read(render(Report("t"))).text
    assert "1 of 1" in read(render(Report("t", (CaseReport("c"),)))).text


def test_equal_reports_give_equal_pages(report: Report) -> None:
    assert render(report) == render(report)


def test_two_hundred_cases_stay_small_without_figures() -> None:
    cases = tuple(case(f"c{i}", 0.7 + i / 1000) for i in range(200))
    assert len(render(Report("t", cases))) < 1_000_000
