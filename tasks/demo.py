"""Demo: the synthetic cohort that needs no data, and which of its cases are atlases."""

from pathlib import Path
from typing import Any

ATLASES = 3
TRUTH = "truth/labels"


def demo_folder(output: Path) -> Path:
    """Where the synthetic cohort lies: beside the results, not among them."""
    return output.with_name(output.name + "-cohort")


def demo_call(output: Path) -> dict[str, Any]:
    """Parameters of the demo's call that do not depend on the cohort's cases."""
    cohort = demo_folder(output)
    return {"cohort": cohort, "atlases": (), "output": output, "evaluate": cohort / TRUTH}
