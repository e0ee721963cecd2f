"""The methods of the league: engines without a network, networks alone, networks and then a few steps of svf."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from covoxel.fusion import fuse, gather_evidence
from covoxel.registration import MovingBatch, PairModel, register
from covoxel.registration.alignment import align
from covoxel.spatial import Image, Transform
from tasks.models import load_model

CENTRE = "identity (centre)"
LEARNED, REFINED = "learned", "learned+svf"
DRIVES = ("intensities", "mind", "labels")
LABELLER = "locally_weighted"
"""Rule whose result drives a refinement by labels."""


@dataclass(frozen=True)
class Method:
    """One row of the league.

    Parameters
    ----------
    name
        Of the row.
    engine
        One of `covoxel.registration`, or `CENTRE`.
    recipe
        Whose network it is; empty without one.
    model
        Folder of that network.
    drive
        What the refinement looks at; empty without one.
    """

    name: str
    engine: str
    recipe: str = ""
    model: Path | None = None
    drive: str = ""


WITHOUT_NETWORK = (Method(CENTRE, CENTRE), Method("affine", "affine"), Method("svf", "svf"))


def methods_of(recipe: str, model: Path, drives: Sequence[str]) -> list[Method]:
    """The rows of one trained recipe: its network alone, then refined by each of `drives`."""
    refined = [Method(refined_name(recipe, drive), REFINED, recipe, model, drive) for drive in drives]
    return [Method(recipe, LEARNED, recipe, model), *refined]


def refined_name(recipe: str, drive: str) -> str:
    """Name of the row of a refined recipe."""
    return f"{recipe} + svf" + ("" if drive == "intensities" else f" on {drive}")


def transforms_of(
    method: Method, fixed: Image, moving: Sequence[Image], label_maps: Sequence[Image], device: str = "cpu"
) -> list[Transform]:
    """Transforms of all atlases; the labels are those of the atlases and only drive what says so."""
    if method.engine == CENTRE:
        return align(fixed, MovingBatch.of(moving, "cpu"), "centre")
    if method.model is None:
        return register(method.engine, fixed, moving, device=device)
    settings: dict[str, Any] = {"model": loaded(method.model, device)}
    if method.engine == REFINED:
        settings["drive"] = method.drive
    if method.drive == "labels":
        first = register(LEARNED, fixed, moving, device=device, model=settings["model"])
        evidence = gather_evidence(fixed, moving, label_maps, first)
        predicted = fuse(LABELLER, evidence).probabilities
        indicators = [(m.data == evidence.values.view(-1, *[1] * m.data.ndim)).float() for m in label_maps]
        settings |= {"fixed_labels": predicted, "moving_labels": indicators}
    return register(method.engine, fixed, moving, device=device, **settings)


@lru_cache(maxsize=4)
def loaded(folder: Path, device: str) -> PairModel:
    """The network of a folder, read once a process."""
    return load_model(folder, device)
