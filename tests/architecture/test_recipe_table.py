"""The table of recipes in the user's guide says of each recipe what its file says."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from covoxel.training.registration.recipe import Recipe
from tasks.recipe import build_network, load_recipe
from tasks.recipe_files import find_recipe, joint_recipe_names, recipe_names

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "registration.md"
HEADLESS = {"c2fvit": "affine", "lapirn": "stationary"}
HEADINGS = ["recipe", "method", "similarity", "penalties", "learns from", "head", "parameters, millions"]


def table() -> dict[str, dict[str, str]]:
    """Rows of the table by recipe."""
    lines = GUIDE.read_text(encoding="utf-8").splitlines()
    start = lines.index("| " + " | ".join(HEADINGS) + " |")
    rows = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows[cells[0].strip("`")] = dict(zip(HEADINGS, cells, strict=True))
    return rows


def test_the_table_has_every_recipe_once_and_no_other() -> None:
    assert sorted(table()) == list(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_a_row_says_what_the_recipe_says(name: str) -> None:
    recipe, row = load_recipe(find_recipe(name)), table()[name]
    known_warps = recipe.supervision == "warps"
    penalties = (*recipe.regularisers, *recipe.affine_regularisers, *recipe.consistency)
    assert row["similarity"] == ("none" if known_warps else f"`{recipe.similarity.name}`")
    assert row["penalties"] == (", ".join(f"`{term.name}`" for term in penalties) or "none")
    assert row["learns from"] == recipe.supervision
    assert row["head"] == head_of(recipe)
    parameters = sum(part.numel() for part in build_network(recipe, ndim=3).parameters())
    assert row["parameters, millions"] == f"{parameters / 1e6:.2f}"


def head_of(recipe: Recipe) -> str:
    """Name of the head, of the stages of a cascade too, or what a network says that has no choice of heads."""
    settings = recipe.network_settings
    if recipe.network in HEADLESS:
        return HEADLESS[recipe.network]
    return str(settings.get("stage_settings", settings)["head"])


def test_every_key_of_a_recipe_is_explained() -> None:
    text = GUIDE.read_text(encoding="utf-8").partition("## Your own recipe")[2]
    explained = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))))
    assert explained == {item.name for item in fields(Recipe)} - {"name"}


def test_the_recipes_that_people_are_told_to_use_exist() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", GUIDE, ROOT / "flows" / "__main__.py")]
    named = {name for text in texts for name in re.findall(r"--recipe ([\w.-]+)", text)}
    assert named
    assert {name for name in named if not name.endswith(".yaml")} <= {*recipe_names(), *joint_recipe_names()}
