"""Joint training in a flow: how many atlases are spared to judge, and on what the arbiter's verdicts rest."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from covoxel.training.joint import FusedLabels, JointRecipe, TrainedJoint
from covoxel.training.registration import Frame, Recipe
from tasks import joint_training
from tasks.joint_training import How, train_jointly
from tasks.same_labels import LabelContent
from tasks.teaching import Lesson
from tasks.training_files import Reading
from tests.unit.training.joint.toys import SHAPE, cases

TINY = {"encoder": [2], "decoder": [2], "half": 2, "last": [2]}
RECIPE = JointRecipe("toys", "A test.", Recipe("toys", "A test.", "voxelmorph-1", 1, network_settings=TINY), held_out=9)
HOW = How("cpu", "32-true", Path("no.pt"), Path("logs"), None)
NAMES = {0: "", 7: "head"}
CONTENT = LabelContent("0", (1, 1), ((1, 0, 0), (0, 1, 0), (0, 0, 1)))


class Says(nn.Module):
    """Says of every voxel what it is told; as a network that is right or wrong everywhere."""

    def __init__(self, right: bool) -> None:
        super().__init__()
        self.right = right

    def forward(self, image: Tensor) -> Tensor:
        inside = image > 0.3
        said = inside if self.right else ~inside
        return torch.cat([~said, said], 1).float()


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[JointRecipe]:
    """Recipes of trainings, which leave a joint network that is wrong everywhere and a separate one that is right."""
    recipes: list[JointRecipe] = []

    def train(*given: Any, **_: Any) -> TrainedJoint:
        recipe = given[3]
        recipes.append(recipe)
        judging = tuple(case.id for case in given[2] if case.labels is not None)[: recipe.held_out]
        networks = nn.Identity(), Says(right=False), nn.Identity(), Says(right=True)
        return TrainedJoint(*networks, pd.DataFrame(), judging, ("a note",))

    monkeypatch.setattr(joint_training, "train_joint", train)
    return recipes


def reading(labelled: int, count: int, values: tuple[int, ...] = (0, 7)) -> Reading:
    """Cases, the first ones labelled, the others with fused labels."""
    some = cases(range(labelled), count)[:count]
    labels = [replace(case, labels=(case.image > 0.3).long()) if case.labels is not None else case for case in some]
    fused = {case.id: FusedLabels((case.image > 0.3).long()) for case in some if case.labels is None}
    lesson = Lesson(list(values), contents=[CONTENT] * labelled)
    return Reading(labels, Frame(SHAPE, (1.0, 1.0)), lesson, fused)


@pytest.mark.parametrize(("labelled", "most"), [(1, 0), (3, 0), (5, 0), (6, 2), (10, 3)])
def test_at_most_a_third_of_the_atlases_is_spared_and_of_five_none(
    called: list[JointRecipe], labelled: int, most: int
) -> None:
    outcome = train_jointly(RECIPE, reading(labelled, 11), NAMES, HOW)
    assert called[0].held_out == outcome.recipe.held_out == most
    assert outcome.notes[0] == (
        f"the recipe holds out 9 atlases to judge; of {labelled}, {most or 'none'} can be spared"
    )


def test_a_recipe_that_asks_for_no_more_than_can_be_spared_is_left_as_it_is(called: list[JointRecipe]) -> None:
    outcome = train_jointly(replace(RECIPE, held_out=1), reading(6, 7), NAMES, HOW)
    assert called[0].held_out == 1
    assert outcome.notes == ("a note",)


def test_atlases_of_one_subject_count_once(called: list[JointRecipe]) -> None:
    told = reading(6, 7)
    twins = [replace(case, subject="one") for case in told.cases[:2]]
    train_jointly(RECIPE, replace(told, cases=[*twins, *told.cases[2:]]), NAMES, HOW)
    assert called[0].held_out == 0


def test_held_out_atlases_judge_and_a_network_that_is_wrong_sets_off_the_alarm(called: list[JointRecipe]) -> None:
    outcome = train_jointly(replace(RECIPE, held_out=1), reading(6, 7), NAMES, HOW)
    (verdict,) = outcome.verdicts
    assert (verdict.use, verdict.cases) == ("separate", 1)
    assert verdict.sentence.startswith(
        "head: joint minus separate Dice -1.000 on 1 held-out case: joint training hurts"
    )
    assert {name: scores.loc[scores.index[0], 1] for name, scores in outcome.scores.items()} == {
        "segmentation": 0.0,
        "separate": 1.0,
    }


def test_where_none_can_be_spared_fused_labels_judge_and_it_is_said(called: list[JointRecipe]) -> None:
    outcome = train_jointly(RECIPE, reading(2, 5), NAMES, HOW)
    (verdict,) = outcome.verdicts
    assert (verdict.use, verdict.cases) == ("separate", 3)
    assert "no atlas was held out: the alarm was checked with fused labels" in outcome.notes[-1]


def test_where_nobody_can_judge_it_is_said(called: list[JointRecipe]) -> None:
    outcome = train_jointly(RECIPE, reading(2, 2), NAMES, HOW)
    assert outcome.verdicts == ()
    assert "the alarm could not be checked" in outcome.notes[-1]


def test_structures_that_no_atlas_has_are_named_and_atlases_without_any_refused(called: list[JointRecipe]) -> None:
    outcome = train_jointly(replace(RECIPE, held_out=0), reading(2, 2), NAMES | {8: "tail", 9: ""}, HOW)
    assert outcome.notes[0] == "no atlas has tail, 9: they are not learnt"
    with pytest.raises(ValueError, match="no atlas has a structure: all its voxels are background"):
        train_jointly(RECIPE, reading(2, 2, values=(0,)), NAMES, HOW)
