"""A record that is damaged costs its own work again, and never the run."""

import json
import os
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

from tests.flows.test_few_shot import Invoke, MakeCohort, content

Damage = Callable[[Path, dict[str, Any]], object]


def _unsigned(path: Path, data: dict[str, Any], **change: object) -> None:
    """As it was filed before records carried a hash of their own."""
    data.pop("sha256", None)
    path.write_text(json.dumps(data | change))


def _hollow(path: Path, data: dict[str, Any]) -> None:
    _unsigned(path, data, facts={name: [] for name in data["facts"]})


def _pipe(path: Path, data: dict[str, Any]) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path, data: dict[str, Any]) -> None:
    path.unlink()
    (path / "more").mkdir(parents=True)


ROUNDS: list[list[Damage]] = [
    [lambda path, data: _unsigned(path, data, facts={})],
    [_hollow],
    [
        lambda path, data: path.write_text("[" * 200_000 + "]" * 200_000),
        lambda path, data: path.write_text(json.dumps(data | {"outputs": []})),
        _pipe,
        _folder,
    ],
]


def test_damaged_records_are_as_if_the_work_were_not_done(
    invoke: Invoke, make_cohort: MakeCohort, quick_settings: Path, tmp_path: Path
) -> None:
    cohort, output = make_cohort(cases=5, labelled=3), tmp_path / "out"
    quick_settings.write_text("register: {engine: identity}\n")
    run = ["few-shot", "--cohort", cohort, "--atlases", "c1,c2,c3", "--output", output, "--settings", quick_settings]
    run += ["--evaluate", tmp_path / "cohort-truth"]
    assert invoke(*run)[0] == 0
    first, records = content(output), sorted((output / ".covoxel" / "manifest").glob("*/*.json"))
    assert {"check", "register", "calibrate", "fuse", "evaluate", "figures"} <= {path.parent.name for path in records}
    for damages in ROUNDS:
        for damage, path in zip(cycle(damages), records, strict=False):
            damage(path, json.loads(path.read_text()))
        status, text, _ = invoke("status", "--output", output)
        assert status == 0
        assert "c4\tdone\ta rerun would do: check" in text
        assert invoke(*run)[0] == 0
        assert content(output) == first
