"""The methods of the league: engines without a network, networks alone or refined by svf, directly or by a template."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.league_template import bring_through
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
    template
        Folder of the template through which all atlases come onto a case; None: each is registered to it.
    """

    name: str
    engine: str
    recipe: str = ""
    model: Path | None = None
    drive: str = ""
    template: Path | None = None


WITHOUT_NETWORK = (Method(CENTRE, CENTRE), Method("affine", "affine"), Method("svf", "svf"))


def methods_of(recipe: str, model: Path, drives: Sequence[str]) -> list[Method]:
    """The rows of one trained recipe: its network alone, then refined by each of `drives`."""
    refined = [Method(refined_name(recipe, drive), REFINED, recipe, model, drive) for drive in drives]
    return [Method(recipe, LEARNED, recipe, model), *refined]


def through_template(template: Path, networks: Sequence[Method]) -> list[Method]:
    """The rows through a template: by svf, and by each of these networks, refined on intensities."""
    drive = DRIVES[0]
    refined = [
        Method(through_name(refined_name(m.recipe, drive)), REFINED, m.recipe, m.model, drive, template)
        for m in networks
    ]
    return [Method(through_name("svf"), "svf", template=template), *refined]


def through_name(direct: str) -> str:
    """Name of the row of a method that goes through the template."""
    return f"{direct}, through a template"


def refined_name(recipe: str, drive: str) -> str:
    """Name of the row of a refined recipe."""
    return f"{recipe} + svf" + ("" if drive == "intensities" else f" on {drive}")


def transforms_of(
    method: Method, fixed: Image, moving: Sequence[Image], label_maps: Sequence[Image], device: str = "cpu"
) -> list[Transform]:
    """Transforms of all atlases; the labels are those of the atlases and only drive what says so."""
    if method.template is not None:
        network = {} if method.model is None else {"model": loaded(method.model, device)}
        return bring_through(method.template, method.engine, fixed, len(moving), network, device)
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
