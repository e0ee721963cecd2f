"""What the documents tell people to type exists, and what they link to is there."""

import re
from pathlib import Path

import pytest
import torch
import typer.main

from covoxel.io import write_image
from covoxel.spatial import Grid, Image
from flows.__main__ import app

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"```(?:sh|bash|console)\n(.*?)```", re.DOTALL)
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
PATH = re.compile(r"`((?:flows|tasks|nets|data_catalog|covoxel|tests|docs|benchmarks)/[\w./-]*)`")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def typed(start: str) -> list[tuple[str, str]]:
    """Pairs of document and command line that begins with `start`, continued lines joined."""
    found = []
    for path in DOCUMENTS:
        for block in FENCE.findall(path.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                for command in re.findall(rf"(?:^|[\s/]){re.escape(start)} +([^#&;|]+)", line):
                    found.append((path.name, command.strip()))
    return found


MAKE = typed("make")
FLOWS = typed("python -m flows")


def test_there_are_commands_to_check() -> None:
    assert ("README.md", "demo") in MAKE
    assert any(command.startswith("few-shot") for document, command in FLOWS if document == "README.md")


@pytest.mark.parametrize(("document", "command"), MAKE)
def test_make_knows_the_target(document: str, command: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in (word for word in command.split() if "=" not in word):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{document}: make {target}"


@pytest.mark.parametrize(("document", "command"), FLOWS)
def test_the_command_line_knows_the_verb_and_its_options(document: str, command: str) -> None:
    verb, *words = command.split()
    if verb.startswith("-"):
        return
    verbs = typer.main.get_group(app).commands
    assert verb in verbs, f"{document}: python -m flows {verb}"
    options = {option for parameter in verbs[verb].params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = {word.partition("=")[0] for word in words if word.startswith("-")} - options - {"--help"}
    assert not unknown, f"{document}: {verb} has no {unknown}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    missing = [link for link in LINK.findall(path.read_text("utf-8")) if not (path.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_of_the_repository_that_are_named_exist(path: Path) -> None:
    missing = [name for name in PATH.findall(path.read_text("utf-8")) if not (ROOT / name).exists()]
    assert missing == []


def test_the_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = PYTHON.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    grid = Grid.from_spacing((20, 18, 16), 2.0)
    squares = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, side) for side in grid.shape], indexing="ij")) ** 2
    ball = (squares.sum(0) < 0.4).float()
    monkeypatch.chdir(tmp_path)
    write_image(Path("fixed.nii.gz"), Image(ball, grid))
    write_image(Path("moving.nii.gz"), Image(ball.roll(2, 0), grid))
    exec(example, {})
    assert {path.name for path in tmp_path.iterdir()} >= {"moved.nii.gz", "fixed_from_moving_xfm.h5"}
