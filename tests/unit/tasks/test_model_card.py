"""Model card: says what a user must know of a network, in a small table too, and nothing of who or where."""

from dataclasses import replace

import pandas as pd
import pytest
from torch import nn

from covoxel.training.registration import Recipe, Term, TrainedRegistration
from tasks.model_card import ROWS, CardFacts, Run, model_card


@pytest.fixture
def facts() -> CardFacts:
    steps = range(10, 310, 10)
    curve = pd.DataFrame({"step": list(steps), "loss": [1 / step for step in steps], "learning_rate": 0.25})
    curve["validation_loss"] = [None, *(2 / step for step in list(steps)[1:])]
    recipe = Recipe(
        "mine", "A method (Somebody, 2020).", "voxelmorph-1", steps=300, regularisers=(Term("bending", 0.5),)
    )
    trained = TrainedRegistration(nn.Identity(), curve, 300, 250, False, ("the batch was halved to 2",))
    return CardFacts(
        recipe, 259243, (36, 52, 36), (1.0, 1.0, 1.5), 154, 0, 0, 0, (), trained, Run(61.4, "cpu", "32-true", 1, False)
    )


def test_the_card_says_what_it_is_and_how_it_is_used(facts: CardFacts) -> None:
    card = model_card(facts)
    assert card.startswith("# mine\n\nA method (Somebody, 2020).\n")
    for said in (
        "`voxelmorph-1`, 3-D, 259243 parameters",
        "`bending` × 0.5",
        "**images**: 154",
        "36 × 52 × 36 voxels of 1 × 1 × 1.5 mm",
        "300 steps of 4 pairs; it ran to its end. Kept are the weights of step 250.",
        "- the batch was halved to 2",
        "model: models/mine",
        "61 seconds",
        "**licence**: to be stated",
    ):
        assert said in card


def test_the_curve_is_cut_to_a_few_rows_with_its_first_and_last(facts: CardFacts) -> None:
    rows = [line for line in model_card(facts).splitlines() if line.startswith("| ")][2:]
    assert len(rows) == ROWS
    assert rows[0] == "| 10 | 0.1 | n/a |"
    assert rows[-1] == "| 300 | 0.003333 | 0.006667 |"
    assert "learning_rate" not in model_card(facts)


def test_a_card_of_a_network_taught_by_labels_says_that_they_must_not_score_it(facts: CardFacts) -> None:
    assert "must not score" not in model_card(facts)
    card = model_card(replace(facts, drawn=10, predicted=144, structures=("head", "tail")))
    assert "**label maps**: 10 drawn by hand (those of the atlases), 144 predicted; of head, tail" in card
    assert "Labels that trained it must not score it" in card


def test_a_card_says_if_training_stopped_early_and_was_interrupted(facts: CardFacts) -> None:
    early = replace(facts, trained=replace(facts.trained, stopped_early=True), run=replace(facts.run, resumed=True))
    assert "stopped early" in model_card(early)
    assert "interrupted" in model_card(early)
    assert "stopped early" not in model_card(facts)
    assert "interrupted" not in model_card(facts)


def test_a_card_says_what_was_left_out_and_on_what_it_was_trained(facts: CardFacts) -> None:
    run = replace(facts.run, device="cuda", devices=3, precision="bf16-mixed")
    card = model_card(replace(facts, drawn=2, predicted=7, left_out=1, structures=("head",), run=run))
    assert "7 predicted (1 more did not fit and were left out)" in card
    assert "**device**: 3 × cuda" in card
    assert "**precision**: bf16-mixed" in card
