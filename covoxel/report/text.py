"""Words and numbers as the page writes them."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from os.path import commonprefix

MISSING = "–"
_IN_QUOTES = re.compile(r"(?P<quote>['\"])(?P<path>/[^'\"]+)(?P=quote)")
_BARE = re.compile(r"(?<![\w.:/<])/(?:[^/\s'\":;,]+/)+[^/\s'\":;,]+")


def known(value: float | None) -> bool:
    """Whether there is a finite number."""
    return value is not None and math.isfinite(value)


def number(value: float | None, digits: int = 3) -> str:
    """`value` with `digits` decimals, or a dash."""
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else MISSING


def significant(value: float | None, digits: int = 3) -> str:
    """`value` with `digits` significant digits and no exponent, or a dash."""
    if value is None or not math.isfinite(value):
        return MISSING
    decimals = digits - 1 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(0, min(decimals, 6))}f}"


def percent(value: float | None) -> str:
    """A percentage; 0 only if it is exactly 0."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0 %"
    return "< 0.001 %" if value < 0.001 else f"{significant(value, 2)} %"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: "0.4 s", "12 s", "3 min 20 s", "25 min", "2 h 05 min"."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 3600:
        return f"{round(whole / 60)} min"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count(n: int, noun: str) -> str:
    """`n` and its noun in the singular or plural."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}{'es' if noun.endswith('s') else 's'}"


def words(name: str) -> str:
    """The name of a component as people write it."""
    return name.replace("_", " ").strip()


def without_shared_start(names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """What all `names` start with, up to a separator, and each name without it; nothing is cut from a lone name."""
    shared = commonprefix(names) if len(set(names)) > 1 else ""
    shared = shared[: max(shared.rfind(mark) for mark in "_-. ") + 1]
    if len(shared) < 4 or shared in names:
        shared = ""
    return shared, {name: name[len(shared) :] for name in names}


def short_paths(words: str) -> str:
    """`words` with each absolute path cut to its last two parts: a page that is sent on tells no home folders."""
    quoted = _IN_QUOTES.sub(lambda m: f"{m['quote']}{_tail(m['path'])}{m['quote']}", words)
    return _BARE.sub(lambda m: _tail(m[0]), quoted)


def flatten(settings: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key and value of each leaf of nested settings, in their order."""
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{name}.")
        elif isinstance(value, (list, tuple)):
            yield name, short_paths(", ".join(str(item) for item in value)) or "none"
        else:
            yield name, MISSING if value is None else short_paths(str(value))


def _tail(path: str) -> str:
    parts = [part for part in path.split("/") if part]
    return path if len(parts) < 3 else "…/" + "/".join(parts[-2:])
