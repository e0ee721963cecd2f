"""What a recipe of one network refuses, and what of it is a registration recipe's."""

import math
from dataclasses import asdict, fields

import pytest
from pydantic import TypeAdapter, ValidationError

from covoxel.training.joint_net import JointNetRecipe
from covoxel.training.registration import Recipe, Term
from tests.unit.training.joint_net.toys import recipe


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"name": " "}, "name must be a text that is not empty"),
        ({"network": ""}, "network must be a text that is not empty"),
        ({"steps": 0}, "steps must be a whole number, 1 or more, got 0"),
        ({"registration_steps": -1}, "registration_steps must be a whole number, 0 or more, got -1"),
        ({"registration_steps": 2.5}, "registration_steps must be a whole number"),
        ({"held_out": True}, "held_out must be a whole number"),
        ({"batch": 1}, "batch must be a whole number, 2 or more, got 1"),
        ({"pairs": "all"}, "pairs must be one of inter, within, got 'all'"),
        ({"alignment": "rigid"}, "alignment must be one of"),
        ({"decay": "linear"}, "decay must be one of"),
        ({"learning_rate": 0.0}, "learning_rate must be finite and positive"),
        ({"average": 1.0}, "average must be at least 0 and below 1"),
        ({"level_weight": math.nan}, "level_weight must be finite and not negative"),
        ({"fused_weight": -1.0}, "fused_weight must be finite and not negative, got -1.0"),
        ({"moving_labels": "always"}, "moving_labels must be one of .*, got 'always'"),
        ({"drop_labels": 1.5}, "drop_labels must be from 0 to 1"),
        ({"moving_labels": "never", "drop_labels": 0.5}, "drop_labels must be 0 where moving_labels never go in"),
        ({"relax": 0.5}, "relax must be above 0 exactly where lesions are named, got 0.5"),
        ({"lesions": (2,)}, "relax must be above 0 exactly where lesions are named, got 0.0"),
        ({"lesions": (0,), "relax": 0.5}, "lesions must be places in the list of labels, 1 or more"),
        ({"foreign_perimeter": 0.5}, "foreign_volume must be positive beside foreign_perimeter"),
        ({"labelled_share": 0.7, "half_labelled_share": 0.5}, "labelled_share .* must be at most 1"),
        (
            {"similarity": Term("mse", 0.0), "supervised": (), "propagated": (), "agreement": ()},
            "similarity must be of some weight where no label is compared",
        ),
    ],
)
def test_values_out_of_range_and_those_that_do_nothing_are_refused(changes: dict[str, object], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        recipe(**changes)


def test_a_file_may_hold_what_the_recipe_has_and_no_other_key() -> None:
    adapter = TypeAdapter(JointNetRecipe)
    lesion = recipe(lesions=(1, 3), relax=0.5, propagated=(Term("ncc", 2.0),), network_settings={"linked": False})
    assert adapter.validate_python(asdict(lesion)) == lesion
    with pytest.raises(ValidationError, match="Unexpected keyword argument"):
        adapter.validate_python(asdict(lesion) | {"supervision": "labels"})


def test_what_a_registration_recipe_has_too_means_the_same() -> None:
    changes = {"pairs": "within", "batch": 3, "level_weight": 0.5, "clip": 2.0, "seed": 4, "similarity": Term("mind")}
    ours = recipe(**changes)
    theirs = ours.registration
    both = {item.name for item in fields(JointNetRecipe)} & {item.name for item in fields(Recipe)}
    differ = {"held_out", "labelled_share"}  # a share of all cases there, a number of labelled ones here
    assert {name: getattr(theirs, name) for name in both - differ} == {
        name: getattr(ours, name) for name in both - differ
    }


def test_losses_of_no_weight_are_none() -> None:
    some = recipe(supervised=(Term("soft_dice", 0.0),), agreement=())
    assert [some.compares(name) for name in ("supervised", "propagated", "agreement")] == [False, True, False]
