"""How fast a cohort is predicted: the model loaded once for all cases, and one process a case.

As a program it is one such process: python -m benchmarks.nnunet_predict MODEL IMAGE FOLDER
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT
from benchmarks.measure import Stopwatch
from covoxel.external.nnunet import PredictionCase, Predictor, predict_files, read_model

COHORT = 200


def speed(model: Path, images: Sequence[Path], processes: int) -> list[dict[str, Any]]:
    """A row for each way: seconds a case, cases a minute, minutes for 200; the first `processes` images one by one."""
    with tempfile.TemporaryDirectory() as folder:
        with Stopwatch() as once:
            predictor = Predictor(read_model(model))
        with Stopwatch() as watch:
            found = list(predict_files(predictor, _cases(images), Path(folder) / "cohort"))
        failed = [each.problem for each in found if each.problem]
        if failed:
            raise SystemExit(str(failed[0]))
        with Stopwatch() as alone:
            for image in images[:processes]:
                command = [sys.executable, "-m", "benchmarks.nnunet_predict", str(model), str(image), folder]
                subprocess.run(command, cwd=ROOT, check=True)
    start, each = once.seconds, watch.seconds / len(images)
    return [
        _row("cohort", each, (start + each * COHORT) / 60, len(images), predictor.loads),
        _row(
            "process a case", alone.seconds / processes, alone.seconds / processes * COHORT / 60, processes, processes
        ),
    ]


def _row(way: str, seconds: float, minutes: float, cases: int, loads: int) -> dict[str, Any]:
    return {
        "way": way,
        "cases": cases,
        "seconds_a_case": seconds,
        "minutes_for_200": minutes,
        "cases_a_minute": COHORT / minutes,
        "loads": loads,
    }


def _cases(images: Sequence[Path]) -> list[PredictionCase]:
    return [PredictionCase(image.name.removesuffix(".nii.gz"), (image,)) for image in images]


def main() -> None:
    """Predict one case."""
    model, image, folder = map(Path, sys.argv[1:4])
    for each in predict_files(Predictor(read_model(model)), _cases([image]), folder / "alone"):
        if each.problem:
            raise SystemExit(each.problem)


if __name__ == "__main__":
    main()
