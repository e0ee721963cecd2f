"""Joint recipes: of two networks or of one, checked whole before anything starts, one sentence for what is wrong."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from covoxel.training.joint import JointRecipe
from covoxel.training.joint_net import JointNetRecipe
from data_catalog import Case
from tasks.call import CallError
from tasks.joint_recipe import (
    build_joint_net,
    build_networks,
    check_joint_cases,
    joint_recipe_data,
    load_joint_recipe,
    parse_joint_recipe,
    uses_fused,
)
from tasks.recipe_files import JOINT_FOLDER, find_joint_recipe, find_recipe, joint_recipe_names, recipe_names
from tasks.settings import JOINT_RECIPE, SettingsError

TWO = "method: none\nregistration: {network: voxelmorph-1, steps: 5}\n"
ONE = "method: none\nnetwork: shared-unet\nsteps: 5\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_the_keys_say_whether_there_are_two_networks_or_one(write: Callable[..., Path]) -> None:
    assert isinstance(load_joint_recipe(write(TWO)), JointRecipe)
    assert isinstance(load_joint_recipe(write(ONE)), JointNetRecipe)
    for text, found in ((TWO + "network: istn\n", "both"), ("method: none\nsteps: 5\n", "neither")):
        with pytest.raises(SettingsError, match=f"one network the key network; this one has {found}"):
            load_joint_recipe(write(text))


def test_the_registration_within_is_called_as_the_whole_unless_it_says_otherwise(write: Callable[..., Path]) -> None:
    recipe = load_joint_recipe(write(TWO))
    assert (recipe.name, recipe.registration.name, recipe.registration.method) == ("mine", "mine", "none")
    other = load_joint_recipe(write(TWO.replace("steps: 5", "steps: 5, name: other") + "name: called\n"))
    assert (other.name, other.registration.name) == ("called", "other")


@pytest.mark.parametrize("name", joint_recipe_names())
def test_a_recipe_that_comes_with_covoxel_is_sound_and_says_where_it_is_from(name: str) -> None:
    recipe = load_joint_recipe(find_joint_recipe(name))
    assert recipe.name == name
    assert any(year in recipe.method for year in map(str, range(2013, 2027))), "a reference has a year"
    assert (JOINT_FOLDER / f"{name}.yaml").read_text().startswith("# "), "the first line says for whom it is"
    assert parse_joint_recipe(joint_recipe_data(recipe), "data") == recipe


def test_the_default_is_there_and_differs_from_the_paper_s_training_in_fused_labels_alone() -> None:
    fused, paper = (load_joint_recipe(find_joint_recipe(name)) for name in (JOINT_RECIPE, "deepatlas"))
    assert (uses_fused(fused), uses_fused(paper)) == (True, False)
    assert isinstance(fused, JointRecipe)
    assert isinstance(paper, JointRecipe)
    named = {"name": paper.name, "method": paper.method}
    same = replace(fused, **named, fused_weight=0, registration=replace(fused.registration, **named))
    assert same == paper


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("jiont_steps: 5", "unknown key jiont_steps; the nearest known key is joint_steps"),
        ("registration: {network: voxelmorph-1, stesp: 5}", "the nearest known key is registration.steps"),
        ("segmentation: {batsh: 1}", "unknown key segmentation.batsh; the nearest known key is segmentation.batch"),
        ("complementary: {sampeling: [0, 1]}", "the nearest known key is complementary.sampling"),
        ("registration: voxelmorph-1", "registration = 'voxelmorph-1' is wrong"),
        ("registration: {network: voxelmorph-1}", "registration.steps is missing"),
        ("registration: {network: voxelmorf, steps: 5}", "registration: network = 'voxelmorf' is wrong: unknown"),
        ("registration: {network: voxelmorph-1, steps: 5, name: ../up}", "name must be letters, digits"),
        ("name: a b", "name must be letters, digits and ._+- alone, got 'a b'"),
        ("segmentation: {network: unett}", "segmentation: network = 'unett' is wrong: unknown segmentation network"),
        ("segmentation: {network_settings: {width: 3}}", "network_settings of unet: unknown key width; the nearest"),
        ("segmentation: {network_settings: {inputs: 2}}", "segmentation: unet cannot be built in 2-D: "),
        ("segmentation: {supervised: [{name: dise}]}", "segmentation: supervised.0.name = 'dise' is wrong"),
        ("segmentation: {anatomy: {name: soft_dice, options: {a: 1}}}", "anatomy.options of soft_dice: unknown key a"),
        ("complementary: {confidence_weight: 1, confidence: {name: dise}}", "complementary.confidence.name = 'dise'"),
        (
            "complementary: {adversarial_weight: 1, discriminator: {network_settings: {a: 1}}}",
            "complementary.discriminator cannot be built in 2-D",
        ),
        ("ratio: -1", "ratio must be finite and not negative, got -1"),
    ],
)
def test_what_is_wrong_with_two_networks_is_named(write: Callable[..., Path], text: str, sentence: str) -> None:
    refused(write, TWO, text, sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("stesp: 5", "unknown key stesp; the nearest known key is steps"),
        ("network: cross-stich", "network = 'cross-stich' is wrong: unknown joint network"),
        ("network_settings: {widhts: [4]}", "network_settings of shared-unet: unknown key widhts; the nearest"),
        ("network_settings: {head: standing}", "shared-unet cannot be built in 2-D: unknown registration head"),
        ("propagated: [{name: dise}]", "propagated.0.name = 'dise' is wrong"),
        ("similarity: {name: lnc}", "similarity.name = 'lnc' is wrong: unknown similarity"),
        ("moving_labels: sometimes", "moving_labels = 'sometimes' is wrong"),
        ("name: a b", "name must be letters, digits and ._+- alone, got 'a b'"),
    ],
)
def test_what_is_wrong_with_one_network_is_named(write: Callable[..., Path], text: str, sentence: str) -> None:
    refused(write, ONE, text, sentence)


def refused(write: Callable[..., Path], least: str, text: str, sentence: str) -> None:
    key = text.partition(":")[0]
    path = write("".join(line for line in least.splitlines(True) if not line.startswith(f"{key}:")) + text)
    with pytest.raises(SettingsError) as caught:
        load_joint_recipe(path)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_networks_within_a_joint_network_are_checked_too(write: Callable[..., Path]) -> None:
    text = ONE.replace("shared-unet", "istn")
    with pytest.raises(SettingsError, match="in network_settings: registration = 'lapirm' is wrong"):
        load_joint_recipe(write(text + "network_settings: {registration: lapirm}"))
    with pytest.raises(SettingsError, match=r"network_settings\.transformer_settings of unet: unknown key depth"):
        load_joint_recipe(write(text + "network_settings: {transformer_settings: {depth: 2}}"))


def test_recipes_of_one_verb_are_not_found_by_the_other() -> None:
    assert not set(joint_recipe_names()) & set(recipe_names())
    with pytest.raises(CallError, match="unknown joint recipe 'lapirn'; it is one of train-registration; known: "):
        find_joint_recipe("lapirn")
    with pytest.raises(CallError, match="unknown recipe 'deepatlas'; it is one of train-joint; known: "):
        find_recipe("deepatlas")
    with pytest.raises(CallError, match="unknown joint recipe 'deepatlass'; the nearest known one is deepatlas; "):
        find_joint_recipe("deepatlass")
    with pytest.raises(CallError, match=r"joint recipe no/where\.yaml: there is no such file"):
        find_joint_recipe("no/where.yaml")


def test_the_first_weights_are_the_seeds(write: Callable[..., Path]) -> None:
    two, one = load_joint_recipe(write(TWO)), load_joint_recipe(write(ONE))
    assert isinstance(two, JointRecipe)
    assert isinstance(one, JointNetRecipe)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    for build in (lambda seed: build_networks(replace(two, seed=seed), 2, 3)[1], joint_net_of(one)):
        first, again, other = (build(seed).state_dict() for seed in (0, 0, 1))
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not all(torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), before)


def joint_net_of(recipe: JointNetRecipe) -> Callable[[int], torch.nn.Module]:
    return lambda seed: build_joint_net(replace(recipe, seed=seed), 2, 3)


def test_a_discriminator_is_built_where_the_recipe_has_one(write: Callable[..., Path]) -> None:
    recipe = load_joint_recipe(write(TWO))
    assert isinstance(recipe, JointRecipe)
    assert build_networks(recipe, 2, 3)[2] is None
    strict = load_joint_recipe(write(TWO + "complementary: {adversarial_weight: 0.1}\n"))
    assert isinstance(strict, JointRecipe)
    assert build_networks(strict, 2, 3)[2] is not None


@pytest.mark.parametrize(
    ("text", "subjects", "sentence"),
    [
        (TWO, "", "no case is left to train on"),
        (TWO, "a", "there is only one to train on"),
        (TWO.replace("steps: 5", "steps: 5, pairs: within"), "abc", "no subject has two"),
        (ONE + "pairs: within\n", "abc", "no subject has two"),
    ],
)
def test_cases_that_make_no_pair_are_refused(
    write: Callable[..., Path], text: str, subjects: str, sentence: str
) -> None:
    cases = [Case(f"c{i}", Path("i"), Path("l"), "unlabelled", subject, "") for i, subject in enumerate(subjects)]
    with pytest.raises(CallError, match=sentence):
        check_joint_cases(load_joint_recipe(write(text)), cases)
    both = [Case(f"c{i}", Path("i"), Path("l"), "unlabelled", subject, "") for i, subject in enumerate("aab")]
    check_joint_cases(load_joint_recipe(write(text)), both)
