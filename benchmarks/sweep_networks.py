"""Networks of a label sweep by the kind of their recipe: how they are trained, and how they are read back."""

from pathlib import Path
from typing import Any

from benchmarks.sweep_ground import Ground, Networks, Traces
from benchmarks.sweep_one_network import load_one, train_one
from benchmarks.sweep_recipes import AnyRecipe
from benchmarks.sweep_two_networks import load_registration_net, load_two, train_registration_net, train_two
from covoxel.training.joint import JointRecipe
from covoxel.training.joint_net import JointNetRecipe
from covoxel.training.registration import Recipe

_TRAIN: dict[type, Any] = {Recipe: train_registration_net, JointRecipe: train_two, JointNetRecipe: train_one}
_LOAD: dict[type, Any] = {Recipe: load_registration_net, JointRecipe: load_two, JointNetRecipe: load_one}


def train(recipe: AnyRecipe, ground: Ground, folder: Path | None, traces: Traces) -> dict[str, Any]:
    """Train what a recipe is of.

    Parameters
    ----------
    recipe
        Cut to its budget.
    ground
        Images and labels.
    folder
        Where the networks are left, if they are.
    traces
        Where it runs.

    Returns
    -------
    dict
        `steps` by phase, `parameters`, and what else is worth knowing; plain JSON values.
    """
    found: dict[str, Any] = _TRAIN[type(recipe)](recipe, ground, folder, traces)
    return found


def load_networks(recipe: AnyRecipe, folder: Path, spacing_mm: tuple[float, ...]) -> Networks:
    """What `train` left in `folder`, from images of such voxels."""
    networks: Networks = _LOAD[type(recipe)](recipe, folder, spacing_mm)
    return networks
