"""Choice of a registered component by name: its options are checked against its signature before anything starts."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model

from tasks.settings import SettingsError
from tasks.settings_file import explain, known_names

_GIVEN = {"device", "mask", "spacing_mm", "model", "fixed_labels"}
"""What a component is given with the data, or by settings of their own, and not by its options."""


def check_component(
    registry: Mapping[str, Callable[..., Any]],
    name: str,
    options: Mapping[str, Any],
    section: str,
    key: str,
    also: Sequence[str] = (),
) -> None:
    """Check that a component which the settings ask for exists and takes these options.

    Parameters
    ----------
    registry
        Where the component is looked up.
    name, options
        What the settings ask for.
    section, key
        Where the settings ask for it, for error messages.
    also
        Other names that the settings may ask for there, for error messages.

    Raises
    ------
    SettingsError
        As for `check_named`.
    """
    name_at, options_at = f"settings: {section}.{key}", f"settings: in {section}.options of {name}"
    check_named(registry, name, options, name_at, options_at, also)


def check_named(
    registry: Mapping[str, Callable[..., Any]],
    name: str,
    options: Mapping[str, Any],
    name_at: str,
    options_at: str,
    also: Sequence[str] = (),
) -> None:
    """Check that a component exists and takes these options.

    Parameters
    ----------
    registry
        Where the component is looked up.
    name, options
        What is asked for.
    name_at, options_at
        Where it is asked for, for error messages.
    also
        Other names that may be asked for there, for error messages.

    Raises
    ------
    SettingsError
        If the name or an option is unknown (the nearest known one is named) or a value has the wrong type.
    """
    try:
        component = registry[name]
    except KeyError as error:
        what = str(error.args[0]).partition("; known:")[0]
        raise SettingsError(f"{name_at} = {name!r} is wrong: {what}; {known_names(name, [*registry, *also])}") from None
    fields = _options(component)
    model = create_model(name, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True), **fields)
    try:
        model.model_validate(dict(options))
    except ValidationError as error:
        raise SettingsError(f"{options_at}: {explain(error, model)}") from None


def option_of(component: Callable[..., Any], options: Mapping[str, Any], name: str) -> Any:
    """Value of an option of a component: as given, else its default; None if it has no such option."""
    if name in options:
        return options[name]
    option = inspect.signature(component).parameters.get(name)
    return None if option is None or option.default is inspect.Parameter.empty else option.default


def _options(component: Callable[..., Any]) -> dict[str, Any]:
    hints = get_type_hints(component.__init__ if inspect.isclass(component) else component)
    return {
        option.name: (hints.get(option.name, Any), option.default)
        for option in inspect.signature(component).parameters.values()
        if option.kind is inspect.Parameter.KEYWORD_ONLY and option.name not in _GIVEN
    }
