"""Conditional templates: centred, the built-in effect comes out at its size, what cannot be is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from covoxel.atlas import Placement, TemplateSettings, build_template
from covoxel.atlas.conditional import (
    ConditionalTemplate,
    CovariateError,
    Design,
    Value,
    build_conditional,
    case_volumes,
    effect_of,
    read_design,
    read_effect,
    trends,
    write_design,
    write_effect,
)
from covoxel.atlas.conditional.effect import log_stretch
from covoxel.atlas.place import REGULARISED
from covoxel.preprocessing import normalise
from covoxel.registration import MovingBatch
from covoxel.registration.descent import NodeVelocity, Schedule, Term, descend_velocity
from covoxel.spatial import Grid, Image, Transform
from covoxel.testing.ageing import CHANGING, STABLE, draw_people
from covoxel.testing.synthetic import Variability

Known = dict[str, dict[str, Value]]

QUICK = TemplateSettings(affine_rounds=1, iterations=1, first=(20, 20, 8, 0), later=(5,), sharpen=0)
ALIKE = Variability(warp_mm=0.5, warp_kernel_mm=15.0, scale=0.01, rotation_rad=0.03, offset_mm=1.0)


def people(count: int = 12) -> Known:
    """Ages 50, 52 …, of men and women in turn."""
    return {f"p{i}": {"age": 50.0 + 2 * i, "sex": "FM"[i % 2]} for i in range(count)}


def test_a_design_is_zero_in_the_middle_and_what_all_share_has_no_influence() -> None:
    design = Design.of(people(), ["age", "sex"], degree=2)
    assert [(c.covariate, c.level, c.power) for c in design.columns] == [
        ("age", None, 1),
        ("age", None, 2),
        ("sex", "M", 1),
    ]
    np.testing.assert_array_equal(design.row({}), 0)
    np.testing.assert_allclose(design.matrix(people().values()).mean(0), 0, atol=1e-12)
    weights = np.stack(list(design.weights(people()).values()))
    np.testing.assert_allclose(weights.sum(0), 0, atol=1e-12)
    np.testing.assert_allclose(weights.T @ design.matrix(people().values()), np.eye(3), atol=1e-10)


@pytest.mark.parametrize(
    ("changes", "covariates", "rule"),
    [
        ({"age": 70.0}, ["age"], r"age is the same \(70\) for all cases"),
        ({"sex": "M"}, ["age", "sex"], r"sex is the same \(M\) for all cases"),
        ({"age": "old"}, ["age"], "age must be a number for all cases or for none, got 'old' among numbers"),
        ({"sex": "X"}, ["sex"], "sex = X has one case only"),
        ({}, ["age", "years"], "the covariates age, years cannot be told apart in the 12 cases"),
    ],
)
def test_covariates_that_say_nothing_are_refused(changes: dict[str, Value], covariates: list[str], rule: str) -> None:
    known: Known = {case: {**row, "years": row["age"]} for case, row in people().items()}
    for case in list(known)[1:2] if changes in ({"age": "old"}, {"sex": "X"}) else known:
        known[case] |= changes
    with pytest.raises(CovariateError, match=rule):
        Design.of(known, covariates)


def test_values_far_outside_the_cohort_and_too_few_cases_are_refused() -> None:
    with pytest.raises(
        CovariateError, match="a template by age, sex needs 9 cases or more of which they are known, got 8"
    ):
        Design.of(people(8), ["age", "sex"])
    design = Design.of(people(), ["age", "sex"])
    assert design.outside({"age": 72.0}) is None
    assert "age = 75 lies outside the cohort, which reaches from 50 to 72" in str(design.outside({"age": 75.0}))
    with pytest.raises(CovariateError, match="templates can be had from 39 to 83"):
        design.outside({"age": 100.0})
    with pytest.raises(CovariateError, match="sex = X is not known; sex is one of F, M"):
        design.row({"sex": "X"})
    with pytest.raises(CovariateError, match="weight is no covariate of this template; it has age, sex"):
        design.row({"weight": 80.0})


def test_each_number_is_held_against_its_own_range() -> None:
    known = {f"p{n}": {"age": 50.0 + n, "weight": 60.0 + (n * 7) % 12} for n in range(12)}
    design = Design.of(known, ["age", "weight"])
    told = str(design.outside({"age": 62.0, "weight": 72.0}))
    assert "age = 62" in told
    assert "weight = 72" in told
    with pytest.raises(CovariateError, match="weight = 500 lies outside"):
        design.outside({"age": 62.0, "weight": 500.0})


def test_velocities_and_stretches_that_follow_age_are_found_and_pose_is_not() -> None:
    grid, rng = Grid.from_spacing((12, 10), 2.0), np.random.default_rng(0)
    known = people()
    design = Design.of(known, ["age"])
    slope, shared = (torch.from_numpy(rng.normal(size=(2, 6, 5))).float() for _ in range(2))
    placements = {}
    for case, row in known.items():
        x = float(design.row({"age": row["age"]})[0])
        turn = np.array([[np.cos(x / 9), -np.sin(x / 9), x], [np.sin(x / 9), np.cos(x / 9), 0], [0, 0, 1]])
        matrix = turn @ np.diag([np.exp(0.02 * x), np.exp(-0.01 * x), 1.0])
        placements[case] = Placement(grid, matrix, shared + x * slope, (2, 2))
    effect = effect_of(placements, design.weights({case: {"age": row["age"]} for case, row in known.items()}))
    torch.testing.assert_close(effect.velocity_vox[0], slope, rtol=0, atol=1e-5)
    np.testing.assert_allclose(effect.stretch[0], np.diag([0.02, -0.01]), atol=1e-8)
    at = effect.at(np.array([2.0]))
    np.testing.assert_allclose(log_stretch(at.moving_from_template), np.diag([0.04, -0.02]), atol=1e-8)
    np.testing.assert_allclose(at.moving_from_template @ [*grid.centre_ras, 1], [*grid.centre_ras, 1], atol=1e-8)
    middle = effect.at(np.zeros(1))
    assert middle.velocity_vox is not None
    assert float(middle.velocity_vox.abs().max()) == 0


def test_what_is_expected_of_a_case_is_not_drawn_towards_zero() -> None:
    flat = Image(torch.ones(24, 20), Grid.from_spacing((24, 20), 1.0))
    velocity = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 12, 10))).float()
    terms = [Term.of_intensities(flat, MovingBatch.of([flat], "cpu"), "lncc", 2)]
    schedule, start = Schedule((5,), step_vox=0.2, **REGULARISED), [Transform.identity(flat.grid)]
    known = NodeVelocity(velocity[None], (2, 2))
    kept, drawn = (descend_velocity(start, terms, schedule, known, expected) for expected in (known, None))
    assert kept is not None
    assert drawn is not None
    torch.testing.assert_close(kept.velocity_vox, known.velocity_vox, rtol=0, atol=1e-5)
    assert float(drawn.velocity_vox.abs().mean()) < 0.7 * float(velocity.abs().mean())


@pytest.fixture(scope="module")
def found() -> tuple[ConditionalTemplate, Known]:
    """Template by age of sixteen people in whom one structure shrinks by 2 % a year."""
    cohort = draw_people(16, percent_per_year=-2.0, shape=(40, 40), variability=ALIKE)
    images = {name: Image(normalise(person.image), person.image.grid) for name, person in cohort.items()}
    known: Known = {name: {"age": person.age} for name, person in cohort.items()}
    labels = {name: person.label_map for name, person in cohort.items()}
    start = build_template(images, QUICK)
    return build_conditional(images, start, known, ["age"], QUICK, labels=labels, rounds=1), known


def test_the_effect_comes_out_at_its_size_and_where_there_is_none_there_is_none(
    found: tuple[ConditionalTemplate, Known],
) -> None:
    template, _ = found
    young, old = (template.at({"age": age}).volumes_mm3(template.labels) for age in (50.0, 80.0))
    rates = {label: 100 * np.log(old[label] / young[label]) / 30 for label in (CHANGING, STABLE)}
    assert 0.8 < rates[CHANGING] / (100 * np.log(0.98)) < 1.2
    assert abs(rates[STABLE]) < 0.4
    torch.testing.assert_close(template.at({}).image.data, template.image.data, rtol=0, atol=1e-4)


def test_coefficients_and_design_are_read_as_they_were_written(
    found: tuple[ConditionalTemplate, Known], tmp_path: Path
) -> None:
    template, known = found
    write_effect(tmp_path / "effect.npz", template.effect, template.brightness)
    write_design(tmp_path / "design.json", template.design)
    effect, brightness = read_effect(tmp_path / "effect.npz")
    again = ConditionalTemplate(template.image, read_design(tmp_path / "design.json"), effect, brightness)
    assert torch.equal(again.at({"age": 60.0}).image.data, template.at({"age": 60.0}).image.data)
    (tmp_path / "design.json").write_text("{}")
    with pytest.raises(ValueError, match="must hold the covariates of a template"):
        read_design(tmp_path / "design.json")
    assert template.probabilities is not None
    volumes = {case: {} for case in known} | {
        case: case_volumes(template.probabilities, template.labels, template.effect.at(template.design.row(row)))
        for case, row in known.items()
    }
    trend = next(t for t in trends(template.design, known, volumes) if t.label == CHANGING)
    assert trend.low <= trend.percent <= trend.high
    assert trend.percent == pytest.approx(-2, abs=0.4)
