"""The hippocampus set as a user of `few-shot` has it: a table of cases, true labels for scoring alone, settings."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import yaml

from benchmarks.league_training import with_steps
from benchmarks.sweep_recipes import load, scaled, times, two_networks
from covoxel.io import write_table, write_text
from covoxel.training.joint import JointRecipe
from covoxel.training.joint_net import JointNetRecipe
from tasks.joint_recipe import joint_recipe_data
from tasks.recipe_parsing import plain

AnyRecipe = JointRecipe | JointNetRecipe


@dataclass(frozen=True)
class Roles:
    """Ids of the cases: `atlases` have labels, `unlabelled` train without, `test` are scored and do not train."""

    atlases: tuple[str, ...]
    unlabelled: tuple[str, ...]
    test: tuple[str, ...]


def write_cohort(folder: Path, source: Path, roles: Roles) -> Path:
    """Table of the cases; no label but those of the atlases is in it."""
    rows = [
        {"id": case, "image": source / "images" / f"{case}.nii.gz", "label": label, "role": role}
        for role, cases in (("atlas", roles.atlases), ("unlabelled", roles.unlabelled), ("test", roles.test))
        for case in cases
        for label in [source / "labels" / f"{case}.nii.gz" if role == "atlas" else ""]
    ]
    table = folder / "cohort.tsv"
    write_table(table, pd.DataFrame(rows).astype(str))
    return table


def write_truth(folder: Path, source: Path, cases: Sequence[str]) -> Path:
    """Folder with true labels of `cases` and of nobody else."""
    truth = folder / "truth"
    truth.mkdir(parents=True, exist_ok=True)
    for case in cases:
        shutil.copyfile(source / "labels" / f"{case}.nii.gz", truth / f"{case}.nii.gz")
    return truth


def recipe_of(name_or_file: str, seed: int, scale: float, network: str | None) -> AnyRecipe:
    """The joint recipe with its steps cut or stretched, and another registration network if one is named."""
    recipe = load(name_or_file, seed)
    if network is not None:
        recipe = two_networks(recipe)
    if isinstance(recipe, JointRecipe):
        own = with_steps(recipe.registration, scaled(recipe.steps_alone, scale))
        own = replace(own, network=network or own.network)
        recipe = replace(recipe, registration=own, registration_steps=None)
    cut = times(recipe, scale)
    assert isinstance(cut, AnyRecipe)
    return cut


def write_settings(folder: Path, recipe: AnyRecipe, networks: Sequence[str]) -> Path:
    """Settings that name the recipe, which is written beside them, and the networks that are compared."""
    file = folder / f"{recipe.name}.yaml"
    write_text(file, yaml.safe_dump(plain(joint_recipe_data(recipe)), sort_keys=False, allow_unicode=True))
    settings = folder / "settings.yaml"
    write_text(settings, yaml.safe_dump({"segment": {"recipe": str(file), "networks": list(networks)}}))
    return settings
