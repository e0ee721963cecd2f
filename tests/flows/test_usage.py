"""Wrong calls: one sentence each, in words a user knows, before anything that takes seconds is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.__main__ import app

ROOT = Path(__file__).resolve().parents[2]


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removeprefix("error: ").partition(";")[0]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("few-shot", "--cohort, --atlases and --output are missing"),
        ("few-shot --atlases a", "--cohort and --output are missing"),
        ("few-shot --cohort c --atlases a", "--output is missing"),
        ("train-registration --cohort c", "--output and --recipe are missing"),
        ("status", "--output is missing"),
    ],
)
def test_all_options_that_are_missing_are_named_at_once(call: str, sentence: str) -> None:
    assert refused(*call.split()) == sentence


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            "preprocess --cohort c --output o --workers many",
            "--workers is wrong: it must be a whole number, got 'many'",
        ),
        ("preprocess --cohort c --output o --workers 2.5", "--workers is wrong: it must be a whole number, got '2.5'"),
        ("preprocess --cohort c --output o --workers 0", "--workers is wrong: it must be 1 or more, got '0'"),
        ("preprocess --cohort c --output o --workers 65", "--workers is wrong: it must be 64 or less, got '65'"),
        ("demo --cases one", "--cases is wrong: it must be a whole number, got 'one'"),
        ("demo --cases 1", "--cases is wrong: it must be 2 or more, got '1'"),
    ],
)
def test_a_value_against_its_rule_is_named_with_option_and_rule(call: str, sentence: str) -> None:
    assert refused(*call.split()) == sentence


@pytest.mark.parametrize("call", ["few-shoot", "few-shot --cohrt c"])
def test_a_name_nobody_knows_is_answered_with_the_nearest(call: str) -> None:
    assert "few-shot" in refused(*call.split()) or "--cohort" in refused(*call.split())


def test_the_first_line_comes_before_what_takes_seconds(tmp_path: Path) -> None:
    """The imports that take long are made to take an hour."""
    for name in ("torch", "prefect", "pandas", "numpy", "nibabel"):
        (tmp_path / f"{name}.py").write_text("import time\ntime.sleep(3600)\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    environment["PREFECT_HOME"] = str(tmp_path / "state")
    for call in (
        ["few-shot", "--cohort", "c", "--atlases", "a", "--output", "o"],
        ["deploy"],
        ["status", "--output", "o"],
    ):
        command = [sys.executable, "-m", "flows", *call]
        run = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
        assert run.stderr is not None
        assert run.stderr.readline().startswith(f"covoxel 0.1.0: {call[0]}")
        run.kill()
        run.communicate()


def test_libraries_are_silent_on_the_terminal_and_our_lines_are_not() -> None:
    code = (
        "import logging, threading, warnings\n"
        "from flows.quiet import silence_libraries\n"
        "from flows.commands import _log_to_stderr\n"
        "silence_libraries(); _log_to_stderr()\n"
        "warnings.warn('theirs'); logging.getLogger('EventsWorker').error('theirs')\n"
        "from prefect.logging.configuration import setup_logging\n"
        "setup_logging()\n"
        "for name in ('EventsWorker', 'httpx', 'asyncio', 'websockets.client', 'prefect.events', 'uvicorn.error'):\n"
        "    logging.getLogger(name).error('theirs')\n"
        "warnings.warn('theirs')\n"
        "def fail(): raise RuntimeError('theirs')\n"
        "thread = threading.Thread(target=fail); thread.start(); thread.join()\n"
        "class Bad:\n    def __del__(self): raise RuntimeError('theirs')\n"
        "Bad()\n"
        "logging.getLogger('flows').info('ours')\n"
    )
    command = ["-c", "from flows.environment import prepare_environment\nprepare_environment()\n" + code]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == "ours\n"


@pytest.mark.parametrize("call", [["--help"], ["few-shot", "--help"], ["few-shot"]])
def test_help_and_wrong_calls_take_no_second_of_cpu(call: list[str]) -> None:
    before = os.times()
    subprocess.run([sys.executable, "-m", "flows", *call], cwd=ROOT, capture_output=True, check=False)
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1.5
