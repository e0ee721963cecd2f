"""Which recipe each method of the sweep is trained by, and how its phases are cut or stretched to a budget."""

from collections.abc import Mapping
from dataclasses import replace
from functools import singledispatch

from benchmarks.league_training import with_steps
from benchmarks.sweep_plan import DEEPATLAS, SEGMENTATION
from covoxel.training.joint import JointRecipe
from covoxel.training.joint_net import JointNetRecipe
from covoxel.training.registration import Recipe
from tasks.joint_recipe import find_joint_recipe, load_joint_recipe
from tasks.joint_training import FEWEST, SPARED

AnyRecipe = Recipe | JointRecipe | JointNetRecipe

ALONE_FOR_REGISTRATION, ALONE_FOR_JOINT = 0.8, 1.6
"""Steps of the segmentation network alone that take as long as one of the registration network alone, or of both in
turns; measured once, so that a number of steps does not depend on a clock."""


def recipe_name(method: str, given: Mapping[str, str]) -> str:
    """Recipe of a method: what the call gave, else that of its name; segmentation alone is a part of DeepAtlas."""
    own = DEEPATLAS if method == SEGMENTATION else method
    return given.get(method, given.get(own, own))


def load(name_or_file: str, seed: int) -> JointRecipe | JointNetRecipe:
    """Recipe by name or file, everything drawn by `seed`."""
    recipe = load_joint_recipe(find_joint_recipe(name_or_file))
    if isinstance(recipe, JointRecipe):
        return replace(recipe, seed=seed, registration=replace(recipe.registration, seed=seed))
    return replace(recipe, seed=seed)


def two_networks(recipe: JointRecipe | JointNetRecipe) -> JointRecipe:
    """The recipe, if it is of two networks."""
    if not isinstance(recipe, JointRecipe):
        raise SystemExit(f"recipe {recipe.name} must be of two networks (key registration)")
    return recipe


def unsupervised(recipe: JointRecipe) -> Recipe:
    """How the registration network is trained that all methods of two networks share: without a label."""
    own = with_steps(recipe.registration, recipe.steps_alone)
    return replace(own, supervision="images", name="unsupervised", method="The joint recipe's, taught by no label.")


def after_registration(recipe: JointRecipe) -> JointRecipe:
    """What follows when the registration network was trained: the segmentation network alone, then both in turns."""
    return replace(recipe, registration_steps=0)


def segmentation_alone(recipe: JointRecipe) -> JointRecipe:
    """The segmentation network on true labels and nothing else, for as long as all phases of the recipe take."""
    registration = ALONE_FOR_REGISTRATION * recipe.steps_alone
    steps = scaled(registration + recipe.segmentation_steps + ALONE_FOR_JOINT * recipe.joint_steps, 1.0)
    alone = with_joint_phases(recipe, {"segmentation": steps, "joint": 0})
    return replace(alone, registration_steps=0, through_registration="never", fused_weight=0.0, complementary=None)


def with_judges(recipe: JointRecipe | JointNetRecipe, labels: int) -> JointRecipe | JointNetRecipe:
    """The recipe with no more held-out cases than `train-joint` spares of so many."""
    most = labels // SPARED if labels >= FEWEST else 0
    return replace(recipe, held_out=min(recipe.held_out, most))


def times(recipe: AnyRecipe, scale: float) -> AnyRecipe:
    """The recipe with all its phases cut or stretched."""
    return with_phases(recipe, {phase: scaled(steps, scale) for phase, steps in phases_of(recipe).items()})


def scaled(steps: float, scale: float) -> int:
    """So many times `steps`, at least one, if there are any."""
    return max(1, round(steps * scale)) if steps else 0


@singledispatch
def phases_of(recipe: AnyRecipe) -> dict[str, int]:
    """Steps of each phase of a recipe, in order."""
    raise TypeError(f"recipe must be one of {AnyRecipe}, got a {type(recipe).__name__}")


@singledispatch
def with_phases(recipe: AnyRecipe, phases: Mapping[str, int]) -> AnyRecipe:
    """The recipe with phases of so many steps, judged as often as before."""
    raise TypeError(f"recipe must be one of {AnyRecipe}, got a {type(recipe).__name__}")


@phases_of.register
def _(recipe: Recipe) -> dict[str, int]:
    return {"registration": recipe.steps}


@with_phases.register
def _(recipe: Recipe, phases: Mapping[str, int]) -> Recipe:
    return with_steps(recipe, phases["registration"])


@phases_of.register
def _(recipe: JointRecipe) -> dict[str, int]:
    return {"segmentation": recipe.segmentation_steps, "joint": recipe.joint_steps}


@with_phases.register
def with_joint_phases(recipe: JointRecipe, phases: Mapping[str, int]) -> JointRecipe:
    """The recipe with phases "segmentation" and "joint" of so many steps."""
    segmentation, joint = phases["segmentation"], phases["joint"]
    return replace(
        recipe,
        segmentation=replace(recipe.segmentation, warm_up=min(recipe.segmentation.warm_up, segmentation // 4)),
        segmentation_steps=segmentation,
        joint_steps=joint,
        check_every=_checks(recipe, phases),
    )


@phases_of.register
def _(recipe: JointNetRecipe) -> dict[str, int]:
    return {"registration": recipe.registration_steps, "both": recipe.steps}


@with_phases.register
def _(recipe: JointNetRecipe, phases: Mapping[str, int]) -> JointNetRecipe:
    before, both = phases["registration"], phases["both"]
    warm_up = min(recipe.warm_up, both // 4)
    every = _checks(recipe, phases)
    return replace(recipe, registration_steps=before, steps=both, warm_up=warm_up, check_every=every)


def _checks(recipe: JointRecipe | JointNetRecipe, phases: Mapping[str, int]) -> int:
    """Steps between judgements where phases of other lengths take the place of the recipe's."""
    before, after = sum(phases_of(recipe).values()), sum(phases.values())
    return max(1, round(recipe.check_every * after / max(before, 1)))
