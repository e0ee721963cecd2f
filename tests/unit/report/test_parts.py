"""Words, axes, correlation and references of the report."""

import math
import re

import pytest
from scipy.stats import spearmanr

from covoxel.fusion import FUSION_RULES
from covoxel.losses.base import SIMILARITIES
from covoxel.registration import ENGINES
from covoxel.report import text
from covoxel.report.methods import METHODS, REFERENCES, describe
from covoxel.report.plots import Axis, Point, ranked, spearman, strip


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.44, "0.4 s"),
        (12.4, "12 s"),
        (59.7, "1 min 00 s"),
        (200, "3 min 20 s"),
        (1500, "25 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, words: str) -> None:
    assert text.duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"), [(0.0, "0 %"), (1e-7, "< 0.001 %"), (0.0123, "0.012 %"), (2.51, "2.5 %"), (None, "–")]
)
def test_percent(value: float | None, words: str) -> None:
    assert text.percent(value) == words


@pytest.mark.parametrize(
    ("value", "words"), [(1234.5, "1234"), (12.345, "12.3"), (0.012345, "0.0123"), (0.0, "0"), (math.nan, "–")]
)
def test_significant_digits(value: float, words: str) -> None:
    assert text.significant(value) == words


def test_settings_are_flattened_in_their_order() -> None:
    settings = {"b": {"c": [1, 2], "d": None}, "a": True, "e": {}}
    assert list(text.flatten(settings)) == [("b.c", "1, 2"), ("b.d", "–"), ("a", "True"), ("e", "{}")]


@pytest.mark.parametrize("values", [(0.71, 0.93), (0.0, 1.0), (1.0, 1.0), (0.5,), (0.9991, 0.9999), ()])
def test_an_axis_holds_its_values_and_passes_no_bound(values: tuple[float, ...]) -> None:
    axis = Axis.around(values, most=1.0, least=0.0)
    assert 0 <= axis.low < axis.high
    assert axis.high == pytest.approx(1.0)
    assert all(0 <= axis.at(value) <= 100 for value in values)
    assert 2 <= len(axis.ticks) <= 7


@pytest.mark.parametrize("values", [(1.2, 1.25), (1200.0, 5000.0), (3.0, 3.0), (0.0, 0.0), (1e-5, 2e-4)])
def test_an_axis_without_bounds_holds_its_values(values: tuple[float, ...]) -> None:
    axis = Axis.around(values)
    assert axis.low <= min(values)
    assert axis.high >= max(values)
    assert 2 <= len(axis.ticks) <= 7


def test_a_strip_marks_the_worst_at_its_own_end() -> None:
    points = [Point(v, n, n) for v, n in ((0.9, "a"), (0.7, "b"), (0.8, "c"))]
    axis = Axis.around([p.value for p in points])
    low = strip("s", "#fff", points, axis, (), text.number)
    high = strip("s", "#fff", points, axis, (), text.number, worst_is_high=True)
    assert low.lowest is not None
    assert high.lowest is not None
    assert (low.lowest.anchor, high.lowest.anchor) == ("b", "a")
    assert low.p5 < low.middle < high.p5


def test_ranked_cases_rise_from_left_to_right() -> None:
    cloud = ranked([Point(v, str(v), str(v)) for v in (0.9, 0.5, 0.7)], "")
    assert [dot.anchor for dot in cloud.dots] == ["0.5", "0.7", "0.9"]
    assert [dot.x for dot in cloud.dots] == sorted(dot.x for dot in cloud.dots)
    assert [dot.y for dot in cloud.dots] == sorted((dot.y for dot in cloud.dots), reverse=True)


def test_spearman_agrees_with_scipy_and_knows_ties() -> None:
    pairs = [(1.0, 2.0), (2.0, 1.0), (2.0, 5.0), (4.0, 4.0), (5.0, 9.0)]
    assert spearman(pairs) == pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic)
    assert math.isnan(spearman([(1.0, 2.0), (1.0, 3.0)]))


def test_references_are_numbered_in_the_order_they_are_met() -> None:
    paragraph, references = describe(["svf", "affine", "svf"])
    assert [reference.key for reference in references] == ["arsigny2006", "ashburner2007", "jenkinson2001"]
    assert "[1, 2]." in paragraph
    assert paragraph.count("stationary velocity field") == 1
    assert paragraph.endswith("[3].")


def test_a_component_without_a_reference_is_still_named() -> None:
    assert "'my_engine'" in describe(["my_engine"])[0]


@pytest.mark.parametrize("component", sorted({*ENGINES, *SIMILARITIES, *FUSION_RULES, "learned", "learned+svf"}))
def test_every_engine_similarity_and_rule_has_its_sentence(component: str) -> None:
    assert component in METHODS


def test_every_key_has_its_reference_and_every_reference_its_use() -> None:
    used = {key for method in METHODS.values() for key in method.keys}
    assert used == set(REFERENCES)
    for key, reference in REFERENCES.items():
        assert reference.bibtex.startswith(f"@article{{{key},")
        assert reference.bibtex.count("{") == reference.bibtex.count("}")
        assert re.search(r"doi = \{10\.", reference.bibtex)
        assert str(int(key[-4:])) in reference.text
