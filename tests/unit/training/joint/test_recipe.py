"""The joint recipe: what is out of range is refused by name, and it is plain values."""

import json
from dataclasses import asdict

import pytest
from pydantic import TypeAdapter, ValidationError

from covoxel.training.joint import JointRecipe, SegmentationRecipe
from covoxel.training.registration import Term
from tests.unit.training.joint.toys import recipe


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"name": " "}, "name must be a text that is not empty"),
        ({"segmentation_steps": -1}, "segmentation_steps must be a whole number, 0 or more, got -1"),
        ({"registration_steps": -1}, "steps_alone must be a whole number, 0 or more, got -1"),
        ({"joint_steps": 1.5}, "joint_steps must be a whole number"),
        ({"check_every": 0}, "check_every must be a whole number, 1 or more"),
        ({"ratio": -1.0}, "ratio must be finite and not negative"),
        ({"anatomy_weight": float("nan")}, "anatomy_weight must be finite and not negative"),
        ({"supervised_weight": 0.0}, "supervised_weight must be finite and positive"),
        ({"joint_rate": 0.0}, "joint_rate must be finite and positive"),
        ({"through_registration": "sometimes"}, "through_registration must be one of one_label, always, never"),
        (
            {"labelled_share": 0.7, "half_labelled_share": 0.4},
            "labelled_share \\+ half_labelled_share must be at most 1",
        ),
        ({"half_labelled_share": -0.1}, "half_labelled_share must be from 0 to 1"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(change: dict[str, object], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        recipe(**change)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"network": ""}, "segmentation.network must be"),
        ({"supervised": ()}, "segmentation.supervised must be a loss or more with a weight"),
        ({"supervised": (Term("soft_dice", 0.0),)}, "segmentation.supervised must be a loss or more with a weight"),
        ({"decay": "linear"}, "segmentation.decay must be one of"),
        ({"batch": 0}, "segmentation.batch must be a whole number, 1 or more"),
        ({"learning_rate": 0.0}, "segmentation.learning_rate must be finite and positive"),
        ({"average": 1.0}, "segmentation.average must be at least 0 and below 1"),
    ],
)
def test_so_is_one_of_the_segmentation_network(change: dict[str, object], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        SegmentationRecipe(**change)  # type: ignore[arg-type]


def test_it_goes_through_json_and_back() -> None:
    adapter = TypeAdapter(JointRecipe)
    made = recipe(segmentation=SegmentationRecipe(supervised=(Term("soft_dice", 2.0),)))
    assert adapter.validate_python(json.loads(json.dumps(asdict(made)))) == made
    with pytest.raises(ValidationError, match="anatomy_wait"):
        adapter.validate_python(asdict(made) | {"anatomy_wait": 1})


def test_the_steps_alone_are_those_of_the_registration_recipe_unless_others_are_named() -> None:
    assert recipe().steps_alone == 3
    assert recipe(registration_steps=7).steps_alone == 7
    assert recipe(registration_steps=0).steps_alone == 0
