"""What every recipe of `nets/recipes` must do, in 2-D and 3-D: learn in one step, predict, and come back from disk."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from covoxel.registration import register
from covoxel.spatial import Grid, Image
from covoxel.spatial.smoothing import gaussian
from covoxel.training.registration import (
    Frame,
    Recipe,
    TrainedRegistration,
    TrainingCase,
    frame_of,
    prepare,
    train_registration,
)
from covoxel.training.registration.answer import stages_of
from tasks.models import load_model, save_model
from tasks.recipe import build_network, load_recipe
from tasks.recipe_files import find_recipe, recipe_names

SHAPE = {2: (18, 15), 3: (16, 15, 13)}
SPACING_MM = 1.5
VALUES = 3
SUBJECTS = ("a", "a", "b", "b")
"""Two sessions of two people, so that pairs of one subject can be drawn too."""


@dataclass(frozen=True, eq=False)
class Run:
    """One recipe trained for one step, or for one a stage where stages are trained one after the other."""

    recipe: Recipe
    ndim: int
    images: tuple[Image, ...]
    frame: Frame
    before: dict[str, Tensor]
    trained: TrainedRegistration


@pytest.fixture(scope="module", params=[2, 3], ids=["2-D", "3-D"])
def ndim(request: pytest.FixtureRequest) -> int:
    chosen: int = request.param
    return chosen


@pytest.fixture(scope="module", params=recipe_names())
def run(request: pytest.FixtureRequest, ndim: int) -> Run:
    recipe = load_recipe(find_recipe(request.param))
    network = build_network(recipe, ndim)
    recipe = replace(recipe, steps=stages_of(network), warm_up=0, check_every=1, batch=2, held_out=0.0)
    images = tuple(image(ndim, seed) for seed in range(len(SUBJECTS)))
    frame = frame_of(images)
    before = copied(network)
    trained = train_registration(network, cases(images, frame), recipe, values=VALUES)
    return Run(recipe, ndim, images, frame, before, trained)


def copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def awake(network: nn.Module) -> nn.Module:
    """The network with last layers as large as a trained one's: it moves things."""
    torch.manual_seed(5)
    for parameter in network.parameters():
        if 0 < parameter.detach().abs().max() < 1e-3:
            nn.init.normal_(parameter, std=0.05)
    return network


def image(ndim: int, seed: int) -> Image:
    """Smooth intensities of 0 to 1, different ones for each seed."""
    noise = torch.randn(1, 1, *SHAPE[ndim], generator=torch.Generator().manual_seed(seed))
    smooth = gaussian(noise, [2.0] * ndim)[0, 0]
    return Image((smooth - smooth.min()) / (smooth.max() - smooth.min()), Grid.from_spacing(SHAPE[ndim], SPACING_MM))


def cases(images: tuple[Image, ...], frame: Frame) -> list[TrainingCase]:
    """All of them labelled: dark, middling and bright."""
    return [
        prepare(f"case-{index}", image, frame, labels=Image((image.data * 2.99).long(), image.grid), subject=subject)
        for index, (image, subject) in enumerate(zip(images, SUBJECTS, strict=True))
    ]


def test_there_are_recipes_and_each_is_named_after_its_file() -> None:
    names = recipe_names()
    assert len(names) >= 5
    assert [load_recipe(find_recipe(name)).name for name in names] == list(names)


def test_one_step_changes_the_weights_and_keeps_them_finite(run: Run) -> None:
    after = run.trained.network.state_dict()
    assert run.trained.step == run.recipe.steps
    assert after.keys() == run.before.keys()
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    changed = [name for name, tensor in after.items() if not torch.equal(tensor, run.before[name])]
    assert len(changed) > 0.75 * len(after)
    losses = run.trained.curve[["loss", "validation_loss"]].to_numpy(dtype=float)
    assert len(losses) == run.recipe.steps
    assert np.isfinite(losses).all()


def test_it_learns_from_labels_only_if_it_says_so(run: Run) -> None:
    """With other labels the same step ends in other weights, or in the same ones, as the recipe promises."""
    swapped = [
        replace(case, labels=case.labels.flip(0)) if case.labels is not None else case
        for case in cases(run.images, run.frame)
    ]
    other = train_registration(
        build_network(run.recipe, run.ndim), swapped, run.recipe, values=VALUES
    ).network.state_dict()
    same = all(torch.equal(tensor, other[name]) for name, tensor in run.trained.network.state_dict().items())
    assert same == (run.recipe.supervision != "labels")


def test_its_folder_predicts_what_the_network_says(run: Run, tmp_path: Path) -> None:
    network = awake(build_network(run.recipe, run.ndim)).eval()
    save_model(tmp_path / "model", network, run.recipe)
    model = load_model(tmp_path / "model", "cpu")
    fixed, moving = (cases(run.images, run.frame)[i].image[None, None] for i in (0, 2))
    with torch.no_grad():
        said = network(fixed, moving).displacement_vox
        found = model.displacement(fixed, moving)
    assert said.abs().max() > 0.01
    assert torch.equal(found, said)
    assert model.alignment == run.recipe.alignment


def test_the_engine_registers_images_of_different_sizes_with_it(run: Run, tmp_path: Path) -> None:
    save_model(tmp_path / "model", run.trained.network, run.recipe)
    fixed, other = run.images[:2]
    smaller = Image(other.data[1:, 1:], other.grid.cropped([1, 1, 0][: run.ndim], other.data[1:, 1:].shape))
    transforms = register("learned", fixed, [other, smaller], model=load_model(tmp_path / "model", "cpu"))
    assert len(transforms) == 2
    for transform in transforms:
        assert transform.displacement_mm is not None
        assert transform.displacement_mm.shape == (run.ndim, *SHAPE[run.ndim])
        assert torch.isfinite(transform.displacement_mm).all()
        assert transform.displacement_mm.abs().max() > 0
