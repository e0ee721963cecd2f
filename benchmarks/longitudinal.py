"""Longitudinal bar: known changes recovered without bias, visits in any order, and a visit added at a part of the cost.

Usage: `python -m benchmarks.longitudinal OUTPUT [--subjects 20] [--add-visit] [--workers 2] [--seed 0]`
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from covoxel.io import read_table, write_json, write_table
from covoxel.testing.longitudinal import write_cohort

RATES = (-3.0, -1.0, 0.0, 2.0)
ATLASES = 4
CHANGING, STABLE = "changing", "stable"
METHODS = ("labels", "jacobian")


def main() -> None:
    """Run what is asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--subjects", type=int, default=20)
    parser.add_argument("--visits", type=int, default=3)
    parser.add_argument("--spacing", type=float, default=1.75)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--seed", type=int, default=0, help="of the subjects (default 0, by which settings were chosen)"
    )
    parser.add_argument("--add-visit", action="store_true", help="visit N+1 of every subject against from scratch")
    asked = parser.parse_args()
    rates = [RATES[number % len(RATES)] for number in range(asked.subjects)]
    cohort = asked.output / "cohort"

    def written(visits: int) -> Path:
        return write_cohort(cohort, rates, visits=visits, atlases=ATLASES, spacing_mm=asked.spacing, seed=asked.seed)

    table = written(asked.visits)
    first = asked.output / "run"
    # The seconds of the first run are those of a full run only if nothing was there before.
    run(table, first, asked.workers)
    result: dict[str, Any] = {"rates": rate_errors(first, rates), "reversed": reversed_visits(table, first, asked)}
    if asked.add_visit:
        result["added"] = added_visit(written(asked.visits + 1), first, asked)
    write_json(asked.output / "longitudinal.json", result)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def run(table: Path, output: Path, workers: int) -> None:
    """The flow on a table, in a process of its own."""
    names = ",".join(f"a{number + 1}" for number in range(ATLASES))
    command = [sys.executable, "-m", "flows", "longitudinal", "--cohort", str(table), "--atlases", names]
    command += ["--output", str(output), "--workers", str(workers), "--device", "cpu"]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def rate_errors(output: Path, rates: Sequence[float]) -> list[dict[str, Any]]:
    """Error of the rates by true rate and method, with the 95 % interval of its mean."""
    found = read_table(output / "longitudinal" / "rates.tsv")
    true = {f"s{number + 1}": rate for number, rate in enumerate(rates)}
    rows = []
    for method in METHODS:
        for structure in (CHANGING, STABLE):
            own = found[(found["structure"] == structure) & (found["from"] == method)]
            wanted = own["subject"].map(true) if structure == CHANGING else pd.Series(0.0, own.index)
            errors = own["percent_per_year"].astype(float) - wanted
            groups = [("all", errors), *((f"{rate:+g}", errors[wanted == rate]) for rate in sorted(set(wanted)))]
            rows += [_row(method, structure, name, part.to_numpy()) for name, part in groups if len(part)]
    return rows


def _row(method: str, structure: str, true: str, errors: "np.ndarray[Any, Any]") -> dict[str, Any]:
    n, mean = len(errors), float(errors.mean())
    reach = float(stats.t.ppf(0.975, n - 1) * errors.std(ddof=1) / np.sqrt(n)) if n > 1 else None
    return {
        **{"from": method, "structure": structure, "true": true, "n": n, "bias": round(mean, 3)},
        **{
            "low": None if reach is None else round(mean - reach, 3),
            "high": None if reach is None else round(mean + reach, 3),
        },
        "mean_absolute_error": round(float(np.abs(errors).mean()), 3),
        "bias_covers_zero": None if reach is None else bool(abs(mean) <= reach),
    }


def reversed_visits(table: Path, output: Path, asked: argparse.Namespace) -> dict[str, float]:
    """Largest sum, percent a year, of a rate and the rate of the same visits with their dates turned round."""
    cases = read_table(table)
    turned = cases.copy()
    for _, rows in cases[cases["date"].notna()].groupby("subject"):
        days = pd.to_datetime(rows["date"])
        turned.loc[rows.index, "date"] = (days.min() + (days.max() - days)).dt.strftime("%Y-%m-%d")
    turned = turned.sample(frac=1, random_state=0)
    # Sorted by name the visits now come in another order too.
    visits = turned["session"].notna()
    turned.loc[visits, "id"] = [f"r{number:03d}" for number in range(int(visits.sum()))]
    path = table.parent / "reversed.tsv"
    write_table(path, turned)
    run(path, asked.output / "reversed", asked.workers)
    key = ["subject", "structure", "from"]
    both = [read_table(folder / "longitudinal" / "rates.tsv").set_index(key) for folder in (output, path_of(asked))]
    # A rate r forth is the rate 1 / (1 + r) - 1 back.
    logs = [np.log1p(rates["percent_per_year"].astype(float) / 100) for rates in both]
    return {"largest_sum_percent_a_year": round(float(100 * (logs[0] + logs[1]).abs().max()), 4)}


def path_of(asked: argparse.Namespace) -> Path:
    """Output folder of the reversed run."""
    return Path(asked.output) / "reversed"


def added_visit(table: Path, output: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Task-seconds of a visit added to every subject and of all from scratch, and how far the volumes differ."""
    before = seconds(output)
    run(table, output, asked.workers)
    cost = sum(s for key, s in seconds(output).items() if before.get(key) != s)
    scratch = asked.output / "scratch"
    run(table, scratch, asked.workers)
    full = sum(seconds(scratch).values())
    return {
        "added_seconds": round(cost, 1),
        "full_seconds": round(full, 1),
        "share": round(cost / full, 3),
        **differences(output, scratch),
    }


def seconds(output: Path) -> dict[str, float]:
    """Seconds of the work of every job, by stage and case."""
    folder = output / ".covoxel" / "manifest"
    return {
        f"{path.parent.name}/{path.stem}": float(json.loads(path.read_text())["seconds"])
        for path in sorted(folder.glob("*/[!.]*.json"))
    }


def differences(output: Path, scratch: Path) -> dict[str, Any]:
    """Volumes of the updated run against from scratch, and the drift it logged, beside the floor of the study."""
    key = ["id", "label"]
    updated, anew = (read_table(folder / "longitudinal" / "volumes.tsv").set_index(key) for folder in (output, scratch))
    floors = read_table(scratch / "longitudinal" / "floor.tsv")
    drift = read_table(output / "longitudinal" / "drift.tsv")
    result: dict[str, Any] = {"largest_drift_percent": round(float(drift["percent"].astype(float).abs().max()), 3)}
    for method, column in (("labels", "volume_mm3"), ("jacobian", "jacobian_volume_mm3")):
        # Of each visit against the first of its subject: what rates are made of.
        changes = [
            np.log(table[column].astype(float)).groupby([table["subject"], "label"]).transform(_from_first)
            for table in (updated, anew)
        ]
        percent = 100 * (changes[0] - changes[1]).abs()
        floor = floors[floors["from"] == method].set_index("label")["smallest_change_percent"].astype(float)
        result[method] = {
            f"label {label}": {
                "largest_difference_percent": round(float(own.max()), 3),
                "mean_difference_percent": round(float(own.mean()), 3),
                "floor_percent": round(float(floor[label]), 3),
                "below_floor": bool(own.max() < floor[label]),
            }
            for label, own in percent.groupby("label")
        }
    return result


def _from_first(logs: "pd.Series[float]") -> "pd.Series[float]":
    return logs - logs.iloc[0]


if __name__ == "__main__":
    main()
