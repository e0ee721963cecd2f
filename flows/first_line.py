"""The first line of a call: what was asked for, written before anything is imported that takes a while."""

import sys
from collections.abc import Sequence

from covoxel import __version__

_SHOWN = ("cohort", "output")
_SILENT = ("settings",)
"""Verbs whose answer is their first line."""


def write_first_line(arguments: Sequence[str]) -> None:
    """Write version, verb, cohort and output folder to standard error, unless help is asked for."""
    if not arguments or arguments[0].startswith("-") or arguments[0] in _SILENT or "--help" in arguments:
        return
    named = {name: _value(arguments, name) for name in _SHOWN}
    parts = [arguments[0], *(f"{name} {value}" for name, value in named.items() if value)]
    sys.stderr.write(f"covoxel {__version__}: {', '.join(parts)}\n")
    sys.stderr.flush()


def _value(arguments: Sequence[str], name: str) -> str | None:
    """What an option is given, as `--name VALUE` or `--name=VALUE`."""
    option = f"--{name}"
    for this, following in zip(arguments, [*arguments[1:], None], strict=True):
        if this == option:
            return following
        if this.startswith(f"{option}="):
            return this.partition("=")[2]
    return None
