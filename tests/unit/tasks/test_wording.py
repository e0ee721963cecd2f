"""Rules in words a user knows, and none of pydantic's."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from tasks.wording import rule_of


class Example(BaseModel):
    """A value of each kind."""

    whole: int = Field(1, ge=1, le=64)
    share: float = Field(0.5, gt=0, lt=1)
    flag: bool = False
    name: str = "a"
    way: Literal["direct", "template"] = "direct"
    several: Annotated[list[int], Field(min_length=1)] = [1]
    options: dict[str, int] = {}


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("whole", "many", "it must be a whole number"),
        ("whole", 2.5, "it must be a whole number"),
        ("whole", None, "it must be a whole number"),
        ("whole", 0, "it must be 1 or more"),
        ("whole", 65, "it must be 64 or less"),
        ("share", "half", "it must be a number"),
        ("share", 0.0, "it must be greater than 0"),
        ("share", 1.5, "it must be less than 1"),
        ("flag", "maybe", "it must be true or false"),
        ("name", 3, "it must be text"),
        ("way", "round", "it must be one of 'direct', 'template'"),
        ("several", 3, "it must be a list"),
        ("several", [], "it must be a list of 1 or more"),
        ("options", [], "it must be a mapping of keys"),
    ],
)
def test_each_kind_of_rule_is_said_in_our_words(key: str, value: Any, rule: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Example.model_validate({key: value})
    assert rule_of(caught.value.errors()[0]) == rule
