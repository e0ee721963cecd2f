"""The set-up of Prefect for real: one call, a run by a worker, the same labels bit for bit, and all stopped again."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.secret import CLIENT


@pytest.mark.slow
def test_a_deployment_run_gives_what_the_command_line_gives(
    make_cohort: Callable[..., Path], quick_settings: Path, tmp_path: Path
) -> None:
    cohort = make_cohort(cases=4)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PREFECT_HOME": str(tmp_path / "prefect")}
    for name in ("PREFECT_API_URL", CLIENT):
        environment.pop(name, None)

    def flows(*arguments: object, **more: str) -> str:
        command = [sys.executable, "-m", "flows", *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment | more).stdout

    def content(output: Path) -> dict[str, str]:
        files = [*output.glob("*.tsv"), *output.glob("segmentations/*.nii.gz"), *output.glob("transforms/*.h5")]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    run = ["--cohort", cohort, "--atlases", "c1,c2", "--settings", quick_settings]
    flows("few-shot", *run, "--output", tmp_path / "by-hand")
    try:
        said = flows("deploy")
        assert "server: runs" in flows("deploy")
        page = re.search(r"page: (http://127\.0\.0\.1:\d+)", said)
        assert page is not None
        secret = (tmp_path / "prefect" / "secret").read_text().strip()
        parameters = {
            "cohort": str(cohort),
            "atlases": ["c1", "c2"],
            "output": str(tmp_path / "by-worker"),
            "settings": {"register": {"engine": "identity"}, "fuse": {"rule": "majority"}},
        }
        prefect = [sys.executable, "-m", "prefect"]
        subprocess.run(
            [*prefect, "deployment", "run", "few-shot/cpu", "--params", json.dumps(parameters), "--watch"],
            check=True,
            env=environment | {"PREFECT_API_URL": f"{page[1]}/api", CLIENT: secret, "DO_NOT_TRACK": "1"},
            capture_output=True,
            timeout=300,
        )
    finally:
        flows("deploy", "--stop")
    assert len(content(tmp_path / "by-hand")) == 3 + 8 + 4
    assert content(tmp_path / "by-worker") == content(tmp_path / "by-hand")
