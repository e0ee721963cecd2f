"""One place samples, and one folder knows LPS."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = ("flows", "tasks", "nets", "data_catalog", "covoxel")
FILES = sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))
LPS = re.compile(r"(^|[^a-z])lps([^a-z]|$)", re.IGNORECASE)


def words(source: str) -> list[str]:
    """Identifiers and string constants of `source`, without docstrings and comments."""
    tree = ast.parse(source)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            found += [node.value] if isinstance(node.value, str) and id(node) not in prose else []
        else:
            named = (getattr(node, field, None) for field in ("id", "attr", "arg", "name", "asname"))
            found += [value for value in named if isinstance(value, str)]
    return found


def test_grid_sample_is_called_in_one_file_only() -> None:
    callers = {path for path in FILES if any("grid_sample" in word for word in words(path.read_text("utf-8")))}
    assert {str(path.relative_to(ROOT)) for path in callers} == {"covoxel/spatial/warp.py"}


def test_lps_stays_in_io() -> None:
    speakers = {path for path in FILES if any(LPS.search(word) for word in words(path.read_text("utf-8")))}
    outside = {str(path.relative_to(ROOT)) for path in speakers if "covoxel/io/" not in str(path)}
    assert outside == set()


@pytest.mark.parametrize("source", ["lps_from_ras = 1", "axes = 'LPS'", "def to_lps(): ...", "from a import b as lps"])
def test_lps_is_seen(source: str) -> None:
    assert any(LPS.search(word) for word in words(source))


@pytest.mark.parametrize("source", ['"""Not LPS."""', "helps = 1  # LPS", "ellipse = 2"])
def test_prose_and_other_words_are_not_taken_for_lps(source: str) -> None:
    assert not any(LPS.search(word) for word in words(source))
