"""The guide to joint training says of each recipe what its file says, and explains every key."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from covoxel.training.joint import JointRecipe
from covoxel.training.joint_net import JointNetRecipe
from tasks.joint_models import NETWORK, REGISTRATION, SEGMENTATION, SEPARATE, weights_of
from tasks.joint_recipe import build_joint_net, build_networks, load_joint_recipe, uses_fused
from tasks.recipe_files import find_joint_recipe, joint_recipe_names
from tasks.settings import JOINT_RECIPE

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "joint.md"
TEXT = GUIDE.read_text(encoding="utf-8")
HEADINGS = ["recipe", "method", "networks", "fused labels teach", "pairs", "segments", "parameters, millions"]
LABELS = 3


def table() -> dict[str, dict[str, str]]:
    """Rows of the table by recipe."""
    lines = TEXT.splitlines()
    start = lines.index("| " + " | ".join(HEADINGS) + " |")
    rows = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows[cells[0].strip("`")] = dict(zip(HEADINGS, cells, strict=True))
    return rows


def test_the_table_has_every_recipe_once_and_no_other_and_names_the_default() -> None:
    assert sorted(table()) == list(joint_recipe_names())
    assert [name for name, row in table().items() if "default" in row["method"]] == [JOINT_RECIPE]


@pytest.mark.parametrize("name", joint_recipe_names())
def test_a_row_says_what_the_recipe_says(name: str) -> None:
    recipe, row = load_joint_recipe(find_joint_recipe(name)), table()[name]
    assert row["fused labels teach"] == ("yes" if uses_fused(recipe) else "no")
    assert row["pairs"] == recipe.registration.pairs
    if isinstance(recipe, JointRecipe):
        networks = list(build_networks(recipe, 3, LABELS)[:2])
        assert row["networks"] == f"`{recipe.registration.network}` and `{recipe.segmentation.network}`"
    else:
        networks = [build_joint_net(recipe, 3, LABELS)]
        assert row["networks"] == f"`{recipe.network}`"
    assert row["segments"] == ("an image" if isinstance(recipe, JointRecipe) else "beside an atlas")
    millions = [sum(part.numel() for part in network.parameters()) / 1e6 for network in networks]
    assert row["parameters, millions"] == " + ".join(f"{number:.2f}" for number in millions)


def test_every_key_of_a_recipe_is_explained() -> None:
    two, one = TEXT.partition("## Your own recipe")[2].split("A recipe of **one network**")
    for text, kind in ((two, JointRecipe), (one, JointNetRecipe)):
        keys = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
        explained = set(re.findall(r"`(\w+)`", "\n".join([text.partition("|")[0], *keys])))
        assert explained - {"registration", "network"} == {item.name for item in fields(kind)} - {
            "name",
            "registration",
            "network",
        }


def test_the_files_of_a_model_are_named() -> None:
    for name in (*map(weights_of, (SEGMENTATION, SEPARATE, NETWORK)), f"{REGISTRATION}/"):
        assert f"| `{name}` |" in TEXT
