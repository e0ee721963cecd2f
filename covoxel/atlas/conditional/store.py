"""Conditional templates on disk: arrays in one file, what they mean in another, nothing is unpickled."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from covoxel.atlas.conditional.brightness import Brightness
from covoxel.atlas.conditional.design import Column, Design, Scale
from covoxel.atlas.conditional.effect import Effect
from covoxel.io import write_json
from covoxel.io.arrays import read_arrays, write_arrays
from covoxel.spatial import Grid


def write_effect(path: Path, effect: Effect, brightness: Brightness | None = None) -> None:
    """Write coefficients (`.npz`), whole or not at all; the same ones give the same bytes."""
    arrays: dict[str, Any] = {
        "shape": np.asarray(effect.grid.shape, dtype=np.int64),
        "ras_from_voxel": effect.grid.ras_from_voxel,
        "cells": np.asarray(effect.cells, dtype=np.int64),
        "velocity_vox": effect.velocity_vox.cpu().numpy(),
        "stretch": effect.stretch,
    }
    if brightness is not None:
        arrays["brightness_cells"] = np.asarray(brightness.cells, dtype=np.int64)
        arrays["brightness"] = brightness.values.cpu().numpy()
    write_arrays(path, arrays)


def read_effect(path: Path) -> tuple[Effect, Brightness | None]:
    """Read coefficients.

    Raises
    ------
    ValueError
        If the file is missing, damaged or something else.
    """
    arrays = read_arrays(path)
    try:
        grid = Grid(tuple(arrays["shape"].tolist()), arrays["ras_from_voxel"])
        velocity = torch.from_numpy(arrays["velocity_vox"])
        effect = Effect(grid, tuple(arrays["cells"].tolist()), velocity, arrays["stretch"])
        if "brightness" not in arrays:
            return effect, None
        cells = tuple(arrays["brightness_cells"].tolist())
        return effect, Brightness(cells, torch.from_numpy(arrays["brightness"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must hold the effect of covariates on a template: {error}") from error


def write_design(path: Path, design: Design) -> None:
    """Write what the columns of the coefficients mean (`.json`)."""
    write_json(path, design_facts(design))


def read_design(path: Path) -> Design:
    """Read what the columns of the coefficients mean.

    Raises
    ------
    ValueError
        If the file is missing, damaged or something else.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return design_of(facts)
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} must hold the covariates of a template: {error}") from error


def design_facts(design: Design) -> dict[str, Any]:
    """A design as plain JSON values."""
    return {
        "columns": [asdict(column) for column in design.columns],
        "scales": {name: asdict(scale) for name, scale in design.scales.items()},
        "levels": {name: dict(counts) for name, counts in design.levels.items()},
        "cases": design.cases,
    }


def design_of(facts: dict[str, Any]) -> Design:
    """A design from plain JSON values."""
    columns = tuple(Column(**column) for column in facts["columns"])
    scales = {name: Scale(**scale) for name, scale in facts["scales"].items()}
    return Design(columns, scales, facts["levels"], int(facts["cases"]))
