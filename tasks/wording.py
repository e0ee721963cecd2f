"""Rules that a value broke, in words a user knows: what pydantic calls an error, by its kind."""

from collections.abc import Mapping, Sequence
from typing import Any

_WHOLE, _NUMBER, _TEXT, _LIST = "a whole number", "a number", "text", "a list"
_KINDS = {
    "int_parsing": _WHOLE,
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": "a smaller whole number",
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": _TEXT,
    "path_type": "a path",
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "dict_type": "a mapping of keys",
    "mapping_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "dataclass_type": "a mapping of keys",
    "none_required": "null",
}
_LIMITS = {
    "greater_than": "greater than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "multiple_of": "a multiple of {multiple_of}",
    "literal_error": "one of {expected}",
    "enum": "one of {expected}",
    "too_short": "a list of {min_length} or more",
    "too_long": "a list of {max_length} or fewer",
    "string_too_short": "text of {min_length} characters or more",
    "string_too_long": "text of {max_length} characters or fewer",
    "string_pattern_mismatch": "text of the form {pattern}",
}


def rule_of(error: Mapping[str, Any]) -> str:
    """What was wrong with a value, as a clause: "it must be a whole number".

    Parameters
    ----------
    error
        One of `ValidationError.errors()`: its `type`, `ctx` and `msg` are read.

    Examples
    --------
    >>> rule_of({"type": "less_than_equal", "ctx": {"le": 64}, "msg": ""})
    'it must be 64 or less'
    """
    kind = str(error["type"])
    if kind == "missing":
        return "it must be given"
    known = _KINDS.get(kind) or _LIMITS.get(kind)
    if known is None:
        return _first_small(str(error["msg"]).partition(", ")[2] if kind == "value_error" else str(error["msg"]))
    return f"it must be {known.format_map({name: _short(value) for name, value in (error.get('ctx') or {}).items()})}"


def listed(names: Sequence[str], last: str = "and") -> str:
    """Names as a sentence lists them.

    Examples
    --------
    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return f" {last} ".join([part for part in (", ".join(names[:-1]), names[-1]) if part])


def _short(value: Any) -> Any:
    """A limit as people write it: 0, not 0.0; choices with commas."""
    if isinstance(value, str):
        return value.replace(" or ", ", ")
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _first_small(text: str) -> str:
    return text[:1].lower() + text[1:]
