"""Recipe: every value is checked when it is made, and a YAML file can hold it."""

import json
import math
from dataclasses import asdict, replace

import pytest
from pydantic import TypeAdapter, ValidationError

from covoxel.training.registration import PairAugmentation, Recipe, Term, WarpSettings

PLAIN = Recipe("r", "a test", "net", 10)


@pytest.mark.parametrize(
    ("key", "value"),
    [("name", " "), ("method", ""), ("network", ""), ("steps", 0), ("steps", 2.5), ("batch", 1), ("batch", True),
     ("warm_up", -1), ("check_every", 0), ("patience", 0), ("seed", -1), ("learning_rate", 0.0), ("clip", math.inf),
     ("weight_decay", -1.0), ("level_weight", math.nan), ("labelled_share", 1.5), ("average", 1.0), ("held_out", 0.6),
     ("alignment", "rigid"), ("supervision", "none"), ("pairs", "both"), ("decay", "linear")],
)  # fmt: skip
def test_a_value_out_of_range_is_named(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{key} must be .*, got {value!r}"):
        replace(PLAIN, **{key: value})


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Term(""), "name must be the name of a loss"),
        (lambda: Term("mse", -1.0), "weight must be finite and not negative, got -1.0"),
        (lambda: Term("mse", 1.0, {"radius": [2]}), r"options.radius must be a number"),  # type: ignore[dict-item]
        (lambda: WarpSettings(still=1.0), "warps.still must be below 1"),
        (lambda: WarpSettings(control_vox=0.5), "warps.control_vox must be at least 1"),
        (lambda: WarpSettings(scale=math.nan), "warps.scale must be finite"),
        (lambda: PairAugmentation(noise=-1.0), "noise must be finite and not negative"),
    ],
)
def test_its_parts_are_checked_too(make: object, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        make()  # type: ignore[operator]


def test_it_is_built_from_plain_values_and_back() -> None:
    plain = {
        "name": "r",
        "method": "a test",
        "network": "net",
        "steps": 10,
        "network_settings": {"encoder": [8, 16], "head": "stationary"},
        "regularisers": [{"name": "bending", "weight": 2, "options": {"a": True, "b": 1, "c": 0.5}}],
        "augmentation": {"gain": 0.2},
    }
    made = TypeAdapter(Recipe).validate_python(plain)
    assert made.regularisers == (Term("bending", 2.0, {"a": True, "b": 1, "c": 0.5}),)
    assert made.regularisers[0].options["a"] is True
    assert made.augmentation == PairAugmentation(gain=0.2)
    assert TypeAdapter(Recipe).validate_python(json.loads(json.dumps(asdict(made)))) == made


@pytest.mark.parametrize("where", [(), ("similarity",), ("warps",), ("augmentation",)])
def test_an_unknown_key_is_refused(where: tuple[str, ...]) -> None:
    plain = json.loads(json.dumps(asdict(PLAIN)))
    part = plain
    for key in where:
        part = part[key]
    part["colour"] = 1
    with pytest.raises(ValidationError, match="colour"):
        TypeAdapter(Recipe).validate_python(plain)
