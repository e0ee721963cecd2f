"""Scores of all methods on all cases, kept on disk so that a league that was killed goes on."""

import hashlib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.common import ROOT
from benchmarks.fusion_evidence import STRUCTURES, Cohort, code_digest
from benchmarks.fusion_jobs import Workers
from benchmarks.league_methods import Method
from benchmarks.league_scoring import CaseScore, PairScore, ScoringJob, score
from benchmarks.measure import say
from covoxel.io import read_table, sha256_file, sha256_json, write_table

_CODE = ("registration", "spatial", "losses", "preprocessing", "metrics", "fusion")
_LISTS = ("dice", "hd95_mm")
_NUMBERS = tuple(f.name for f in fields(PairScore) if f.name not in ("case", "atlas", *_LISTS))


def score_all(
    methods: Sequence[Method], cohort: Cohort, rules: dict[str, tuple[str, ...]], folder: Path, workers: Workers
) -> dict[str, tuple[CaseScore, ...]]:
    """Scores of each method by its name, those in `folder` taken from there; one that fails is said and left out.

    `rules` has the fusion rules by name of the method.
    """
    found: dict[str, tuple[CaseScore, ...]] = {}
    for method in methods:
        own = rules.get(method.name, ())
        files = _files(method, cohort, own, folder)
        if not all(file.is_file() for file in files):
            jobs = [ScoringJob(method, cohort, case, own) for case in cohort.cases]
            try:
                _write(workers.all(method.name, score, jobs), files)
            except (ValueError, RuntimeError) as error:
                say(f"{method.name}: FAILED, {error}")
                continue
        found[method.name] = _read(cohort, own, files)
    return found


def _files(method: Method, cohort: Cohort, rules: Sequence[str], folder: Path) -> tuple[Path, Path]:
    """Files of pairs and of fused labels; their names change with everything the scores depend on."""
    weights = "" if method.model is None else sha256_file(method.model / "weights.safetensors")
    template = "" if method.template is None else method.template.name  # ends in its key
    about = [method.engine, method.drive, weights, template, cohort.atlases, cohort.cases, list(rules)]
    about.append(code_digest(_CODE))
    about.append(hashlib.sha256(b"".join((ROOT / "benchmarks" / f).read_bytes() for f in _SOURCES)).hexdigest())
    stem = "".join(letter if letter.isalnum() else "_" for letter in method.name)
    key = sha256_json(about)[:8]
    return folder / f"{stem}-{key}.pairs.tsv", folder / f"{stem}-{key}.fused.tsv"


_SOURCES = ("league_methods.py", "league_scoring.py", "league_template.py")


def _write(scores: Sequence[CaseScore], files: tuple[Path, Path]) -> None:
    names = list(STRUCTURES.values())
    pairs = [
        {"case": pair.case, "atlas": pair.atlas}
        | {f"{kind}_{name}": value for kind in _LISTS for name, value in zip(names, getattr(pair, kind), strict=True)}
        | {name: getattr(pair, name) for name in _NUMBERS}
        for case in scores
        for pair in case.pairs
    ]
    fused = [(case.case, rule, *values) for case in scores for rule, values in case.fused.items()]
    write_table(files[1], pd.DataFrame(fused, columns=["case", "rule", *names]))
    write_table(files[0], pd.DataFrame(pairs))


def _read(cohort: Cohort, rules: Sequence[str], files: tuple[Path, Path]) -> tuple[CaseScore, ...]:
    pairs, fused = (read_table(file, text=("case", "atlas", "rule")) for file in files)
    names = list(STRUCTURES.values())
    scores = []
    for case in cohort.cases:
        own = tuple(_pair(row, names) for row in _rows(pairs, case))
        labelled = {row["rule"]: tuple(float(row[name]) for name in names) for row in _rows(fused, case)}
        scores.append(CaseScore(case, own, {rule: labelled[rule] for rule in rules}))
    return tuple(scores)


def _rows(table: pd.DataFrame, case: str) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table[table["case"] == case].to_dict("records")]


def _pair(row: dict[str, Any], names: Sequence[str]) -> PairScore:
    dice, hd95 = (tuple(float(row[f"{kind}_{name}"]) for name in names) for kind in _LISTS)
    return PairScore(row["case"], row["atlas"], dice, hd95, *(float(row[name]) for name in _NUMBERS))
