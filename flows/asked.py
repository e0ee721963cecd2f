"""What a user asks for on the command line, by the names of a call."""

from pathlib import Path
from typing import Any


def asked_for(
    cohort: Path | None,
    atlases: str | None,
    output: Path,
    cases: str | None,
    device: str,
    workers: int | None,
    evaluate: Path | None = None,
    rule: str | None = None,
    segmenter: str | None = None,
    correct: bool | None = None,
) -> dict[str, Any]:
    """What the user asks for, by the names of a call; what was left out is not in it."""
    asked = {
        "cohort": cohort,
        "atlases": None if atlases is None else _ids(atlases),
        "output": output,
        "evaluate": evaluate,
        "cases": None if cases is None else _ids(cases),
        "device": device,
        "workers": workers,
        "rule": rule,
        "segmenter": segmenter,
        "correct": correct,
    }
    return {name: value for name, value in asked.items() if value is not None}


def _ids(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
