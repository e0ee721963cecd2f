"""The recipes of one network that come with covoxel: each is read, takes a step in 2-D and 3-D, and says what it is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import TypeAdapter

from covoxel.training.joint_net import JointNetRecipe, train_joint_net
from covoxel.training.registration import TrainingCase
from nets.joint import JOINT_NETS, JointNet
from tests.unit.training.registration.toys import blob

FOLDER = Path(__file__).resolve().parents[4] / "nets" / "recipes" / "joint"
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.yaml")) if "\nnetwork:" in path.read_text(encoding="utf-8")}
PAPERS = {
    "cross-stitch": "cross-stitch",
    "two-paths": "cross-stitch",
    "cross-stitch-within": "cross-stitch",
    "shared-unet": "shared-unet",
    "shared-encoder": "shared-encoder",
    "segmentation-informed": "informed",
    "istn": "istn",
    "ncr-net": "ncr-net",
}
SHAPE = {2: (24, 20), 3: (14, 16, 12)}


def load(name: str) -> JointNetRecipe:
    data: dict[str, Any] = yaml.safe_load(FILES[name].read_text(encoding="utf-8"))
    return TypeAdapter(JointNetRecipe).validate_python({"name": name} | data)


def build(recipe: JointNetRecipe, ndim: int, labels: int = 3) -> JointNet:
    torch.manual_seed(recipe.seed)
    return JOINT_NETS[recipe.network](ndim, labels=labels, **recipe.network_settings)


def cases(ndim: int) -> list[TrainingCase]:
    """Two visits of each of four people, the first five of them labelled."""
    some = []
    for number in range(8):
        centre = torch.tensor([side / 2 for side in SHAPE[ndim]]) + 0.3 * number
        image = blob(SHAPE[ndim], centre, 3.0)
        labels = (image > 0.3).long() + (image > 0.7).long() if number < 5 else None
        mask = torch.ones(SHAPE[ndim], dtype=torch.bool)
        some.append(TrainingCase(f"case-{number}", image, mask, labels, f"person-{number // 2}"))
    return some


def test_there_is_a_file_for_each_architecture() -> None:
    assert {name: load(name).network for name in FILES} == PAPERS
    assert set(PAPERS.values()) == set(JOINT_NETS)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("name", PAPERS)
def test_a_step_of_each_phase_changes_all_weights_and_keeps_them_finite(name: str, ndim: int) -> None:
    recipe = load(name)
    short = replace(recipe, steps=2, registration_steps=min(1, recipe.registration_steps), check_every=1, warm_up=0)
    network = build(recipe, ndim)
    before = {key: value.detach().clone() for key, value in network.named_parameters()}
    trained = train_joint_net(network, cases(ndim), short, values=3)
    after = dict(trained.network.named_parameters())
    assert all(value.isfinite().all() for value in after.values())
    assert [key for key, value in after.items() if torch.equal(value, before[key])] == []
    assert trained.curve["loss"].notna().all()
    assert ("validation_loss" in trained.curve) == (recipe.held_out > 0)


@pytest.mark.parametrize("name", PAPERS)
def test_a_file_says_where_it_differs_from_its_paper(name: str) -> None:
    text = FILES[name].read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert " 20" in load(name).method  # the year of the reference
    comment = text[: text.index("method:")]
    assert any(word in comment.lower() for word in ("here", "differ", "paper", "cross-stitch without")), comment


def test_the_two_paths_differ_from_the_cross_stitch_in_their_units_alone() -> None:
    linked, apart = load("cross-stitch"), load("two-paths")
    settings = {**linked.network_settings, "linked": False}
    assert replace(linked, name="x", method="x", network_settings=settings) == replace(apart, name="x", method="x")
    weights = build(apart, 2).state_dict()
    both = build(linked, 2).state_dict()
    assert {key: value for key, value in both.items() if not key.startswith("units.")}.keys() == weights.keys()
    assert all(torch.equal(value, both[key]) for key, value in weights.items())


def test_recipes_are_of_a_size_for_two_cores() -> None:
    for name in PAPERS:
        recipe = load(name)
        assert recipe.steps + recipe.registration_steps == 3000, name
        assert sum(parameter.numel() for parameter in build(recipe, 3).parameters()) < 1.5e6, name
