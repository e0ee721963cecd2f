"""Recipes: found by name or file, checked whole before anything starts, and one sentence for whatever is wrong."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from covoxel.training.registration.recipe import Term
from data_catalog import Case
from tasks.call import Call, CallError
from tasks.recipe import build_network, check_cases, load_recipe, parse_recipe, recipe_data
from tasks.recipe_files import FOLDER, find_recipe, recipe_names
from tasks.settings import SettingsError

LEAST = "method: none\nnetwork: voxelmorph-1\nsteps: 5\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_a_recipe_is_called_as_its_file_unless_it_says_otherwise(write: Callable[..., Path]) -> None:
    assert load_recipe(write(LEAST)).name == "mine"
    assert load_recipe(write(LEAST + "name: other", "recipe.yaml")).name == "other"


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_that_comes_with_covoxel_is_sound_and_says_where_it_is_from(name: str) -> None:
    recipe = load_recipe(find_recipe(name))
    assert recipe.name == name
    assert any(year in recipe.method for year in map(str, range(2013, 2027))), "a reference has a year"
    assert recipe.steps == (6000 if name.startswith("lapirn") else 3000), "as the guide says"
    text = (FOLDER / f"{name}.yaml").read_text()
    assert text.startswith("# "), "the first line says for whom it is"


def test_a_recipe_comes_back_from_its_plain_data() -> None:
    for name in recipe_names():
        recipe = load_recipe(find_recipe(name))
        assert parse_recipe(recipe_data(recipe), "data") == recipe


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("stesp: 5", "unknown key stesp; the nearest known key is steps"),
        ("similarity: {name: lncc, option: {}}", "unknown key similarity.option; the nearest known key is"),
        ("regularisers: [{name: diffusion, weights: 2}]", "the nearest known key is regularisers.0.weight"),
        ("warps: {warp_voxel: 2}", "the nearest known key is warps.warp_vox"),
        ("augmentation: {noize: 1}", "the nearest known key is augmentation.noise"),
        ("batch: 1", "batch must be a whole number, 2 or more, got 1"),
        ("regularisers: [{name: diffusion, weight: -1}]", "regularisers.0: weight must be finite and not negative"),
        ("similarity: {weight: 1.0}", "similarity.name is missing"),
        ("alignment: center", "alignment = 'center' is wrong"),
        (
            "network: voxelmorf",
            "network = 'voxelmorf' is wrong: unknown registration network 'voxelmorf'; known: c2fvit",
        ),
        ("network_settings: {heat: stationary}", "network_settings of voxelmorph-1: unknown key heat; the nearest"),
        ("network_settings: {head: standing}", "voxelmorph-1 cannot be built in 2-D: unknown registration head"),
        ("similarity: {name: lnc}", "similarity.name = 'lnc' is wrong: unknown similarity 'lnc'; known: background"),
        ("similarity: {name: lncc, options: {radus: 2}}", "similarity.options of lncc: unknown key radus"),
        ("similarity: {name: lncc, options: {radius: wide}}", "radius = 'wide' is wrong"),
        ("regularisers: [{name: cycle}]", "regularisers.0.name = 'cycle' is wrong: unknown regulariser"),
        ("regularisers: [{name: diffusion, options: {spacing_mm: 1}}]", "unknown key spacing_mm"),
        ("affine_regularisers: [{name: bending}]", "affine_regularisers.0.name = 'bending' is wrong"),
        ("consistency: [{name: dual_consistency, options: {measure: mse}}]", "the nearest known key is similarity"),
        ("labels: {name: dice}", "labels.name = 'dice' is wrong: unknown label loss"),
        ("name: ../else", "name must be letters, digits and ._+- alone, got '../else'"),
        ("steps: [", "the file is not valid YAML at line"),
    ],
)
def test_what_is_wrong_is_named(write: Callable[..., Path], text: str, sentence: str) -> None:
    key = text.partition(":")[0]
    path = write("".join(line for line in LEAST.splitlines(True) if not line.startswith(f"{key}:")) + text)
    with pytest.raises(SettingsError) as caught:
        load_recipe(path)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_of_the_stages_of_a_cascade_are_checked_too(write: Callable[..., Path]) -> None:
    with pytest.raises(SettingsError, match=r"network_settings\.stage_settings of voxelmorph-1: unknown key haed"):
        load_recipe(write(LEAST.replace("voxelmorph-1", "cascade") + "network_settings: {stage_settings: {haed: x}}"))
    with pytest.raises(SettingsError, match="network_settings: affine = 'c2f' is wrong"):
        load_recipe(write(LEAST.replace("voxelmorph-1", "cascade") + "network_settings: {affine: c2f}"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("- a", "a mapping of keys is expected, got a list"), ("network: a", "is missing"), ("#" * 1_000_001, "at most")],
)
def test_a_file_that_is_no_recipe_is_refused(write: Callable[..., Path], text: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        load_recipe(write(text))


def test_a_name_nobody_knows_is_named_with_the_nearest_and_all_others(tmp_path: Path) -> None:
    with pytest.raises(
        CallError, match=r"unknown recipe 'voxelmorf-1'; the nearest known one is voxelmorph-1; known: "
    ):
        find_recipe("voxelmorf-1")
    with pytest.raises(CallError, match="there is no such file"):
        find_recipe(str(tmp_path / "none.yaml"))


def test_a_call_keeps_a_name_and_makes_a_file_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Call(cohort=Path("c"), output=Path("o"), recipe="voxelmorph-1").recipe == "voxelmorph-1"
    assert Call(cohort=Path("c"), output=Path("o"), recipe="mine.yaml").recipe == str(tmp_path / "mine.yaml")


def test_the_first_weights_are_the_seeds(write: Callable[..., Path]) -> None:
    recipe = load_recipe(write(LEAST))
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, second = (build_network(recipe, 3).state_dict() for _ in range(2))
    other = build_network(replace(recipe, seed=1), 3).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("change", "subjects", "atlases", "sentence"),
    [
        ({"supervision": "labels"}, "ab", 1, "name two cases or more with --atlases, got 1"),
        ({}, "", 0, "no case is left to train on"),
        ({}, "a", 0, "there is only one to train on"),
        ({}, "aa", 0, "there is only one to train on"),
        ({"pairs": "within"}, "abc", 0, "no subject has two"),
    ],
)
def test_cases_that_cannot_train_a_recipe_are_refused(
    write: Callable[..., Path], change: dict[str, str], subjects: str, atlases: int, sentence: str
) -> None:
    recipe = replace(load_recipe(write(LEAST)), **change)  # type: ignore[arg-type]
    with pytest.raises(CallError, match=sentence):
        check_cases(recipe, cases(subjects, atlases))


def test_cases_that_can_train_a_recipe_are_not_refused(write: Callable[..., Path]) -> None:
    recipe = load_recipe(write(LEAST))
    check_cases(recipe, cases("ab", 0))
    check_cases(replace(recipe, supervision="labels", labels=Term("cross_entropy")), cases("ab", 2))
    check_cases(replace(recipe, pairs="within"), cases("aa", 0))
    check_cases(replace(recipe, supervision="warps"), cases("a", 0))


def cases(subjects: str, atlases: int) -> list[Case]:
    """A case a letter, its subject, the first ones atlases."""
    return [
        Case(f"c{place}", Path("i"), Path("l"), "atlas" if place < atlases else "unlabelled", subject, "")
        for place, subject in enumerate(subjects)
    ]
