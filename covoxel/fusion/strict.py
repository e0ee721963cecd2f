"""Reading plain numbers and words that somebody else wrote: nothing is believed before it was looked at."""

from collections.abc import Collection, Mapping
from math import isfinite
from typing import Any


def mapping(what: str, value: Any, keys: Collection[str] | None = None) -> dict[str, Any]:
    """`value` as a mapping of words, with exactly these keys if any are given; else a `ValueError` that says what."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{what} must be a mapping of words, got {shortened(value)}")
    if keys is not None and set(value) != set(keys):
        raise ValueError(
            f"{what} must have the keys {', '.join(sorted(keys))}; got {', '.join(sorted(value)) or 'none'}"
        )
    return value


def number(what: str, value: Any, least: float | None = None, most: float | None = None) -> float:
    """`value` as a finite number within bounds; else a `ValueError` that says what."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"{what} must be a finite number, got {shortened(value)}")
    if (least is not None and value < least) or (most is not None and value > most):
        raise ValueError(f"{what} must lie in {least} to {most}, got {value}")
    return float(value)


def word(what: str, value: Any) -> str:
    """`value` as a word that is not empty; else a `ValueError` that says what."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{what} must be a word, got {shortened(value)}")
    return value


def numbers(what: str, value: Any, least: float | None = None, most: float | None = None) -> dict[str, float]:
    """`value` as a mapping of words to finite numbers within bounds."""
    return {key: number(f"{key} of {what}", item, least, most) for key, item in mapping(what, value).items()}


def words(what: str, value: Any) -> tuple[str, ...]:
    """`value` as a list of words that are not empty."""
    if not isinstance(value, list):
        raise ValueError(f"{what} must be a list of words, got {shortened(value)}")
    return tuple(word(f"each of {what}", item) for item in value)


def same_version(what: str, value: Mapping[str, Any], version: int) -> None:
    """Refuse another version than the one this code writes."""
    if value["version"] != version or isinstance(value["version"], bool):
        raise ValueError(f"version of {what} must be {version}, got {shortened(value['version'])}")


def shortened(value: Any) -> str:
    """The value as an error message may quote it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
