"""Joint training by a recipe of either kind, and what the arbiter says of it on labels that taught nobody."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from covoxel.training.joint import (
    JointRecipe,
    TrainedJoint,
    Verdict,
    compare,
    score,
    score_against_fused,
    train_joint,
)
from covoxel.training.joint_net import JointNetRecipe, score_pairs, train_joint_net
from covoxel.training.registration import Progress, TrainingCase
from covoxel.training.registration.machine import Precision
from tasks.joint_models import NETWORK, REGISTRATION, SEGMENTATION, SEPARATE
from tasks.joint_recipe import AnyJointRecipe, build_joint_net, build_networks
from tasks.training_files import Reading

FEWEST = 6
"""Atlases of which some can be spared to judge: two or more, of one nothing can be said."""
SPARED = 3
"""At most one in so many is."""


@dataclass(frozen=True)
class How:
    """Where a training runs and leaves its traces; see `covoxel.training.joint.train_joint`."""

    device: str
    precision: Precision
    checkpoint: Path
    logs: Path
    progress: Progress | None


@dataclass(frozen=True, eq=False)
class JointOutcome:
    """What a joint training left.

    Parameters
    ----------
    recipe
        As it was used: no more atlases are held out than can be spared.
    networks
        By the names of `tasks.joint_models.save_joint`.
    curve
        The learning curve.
    verdicts
        Of the alarm, one a label; none where it could not be checked.
    scores
        Dice of the held-out cases, one row a case, one column a label, by the network that was scored.
    notes
        What is worth saying, a sentence each.
    """

    recipe: AnyJointRecipe
    networks: Mapping[str, nn.Module]
    curve: pd.DataFrame
    verdicts: tuple[Verdict, ...]
    scores: Mapping[str, pd.DataFrame]
    notes: tuple[str, ...]


def train_jointly(recipe: AnyJointRecipe, reading: Reading, names: Mapping[int, str], how: How) -> JointOutcome:
    """Train by a recipe, and ask the arbiter.

    Parameters
    ----------
    recipe
        Of two networks or of one.
    reading
        Cases and labels.
    names
        Of structures, by value, for sentences.
    how
        Where it runs.

    Raises
    ------
    ValueError
        If no atlas has a structure, or recipe and cases do not fit together.
    TrainingDivergedError
        As for `covoxel.training.joint.train_joint`.
    """
    if reading.lesson.contents and len(reading.lesson.values) < 2:
        raise ValueError("no atlas has a structure: all its voxels are background")
    recipe, notes = _spared(recipe, reading.cases)
    notes += absent(reading, names)
    outcome = _one(recipe, reading, how) if isinstance(recipe, JointNetRecipe) else _two(recipe, reading, names, how)
    return replace(outcome, notes=(*notes, *outcome.notes))


def absent(reading: Reading, names: Mapping[int, str]) -> tuple[str, ...]:
    """A sentence, if the cohort names structures that no atlas has."""
    values = reading.lesson.values
    missing = [name or str(value) for value, name in sorted(names.items()) if value and value not in values]
    if not values or not missing:
        return ()
    return (f"no atlas has {', '.join(missing)}: {'it is' if len(missing) == 1 else 'they are'} not learnt",)


def _spared(recipe: AnyJointRecipe, cases: list[TrainingCase]) -> tuple[AnyJointRecipe, tuple[str, ...]]:
    """The recipe, with no more atlases held out than can be spared, and a sentence if that changed it."""
    people = {case.person for case in cases if case.labels is not None}
    most = len(people) // SPARED if len(people) >= FEWEST else 0
    if recipe.held_out <= most or not people:
        return replace(recipe, held_out=min(recipe.held_out, most)), ()
    note = f"the recipe holds out {recipe.held_out} atlases to judge; of {len(people)}, {most or 'none'} can be spared"
    return replace(recipe, held_out=most), (note,)


def _two(recipe: JointRecipe, reading: Reading, names: Mapping[int, str], how: How) -> JointOutcome:
    count = len(reading.lesson.values)
    registration, segmentation, discriminator = build_networks(recipe, len(reading.frame.shape), max(2, count))
    trained = train_joint(
        registration,
        segmentation,
        reading.cases,
        recipe,
        values=max(2, count),
        fused=reading.fused if recipe.fused_weight else {},
        discriminator=discriminator,
        spacing_mm=reading.frame.spacing_mm,
        **vars(how),
    )
    networks = {
        REGISTRATION: trained.registration,
        SEGMENTATION: trained.segmentation,
        SEPARATE: trained.segmentation_alone,
    }
    found = {name: network for name, network in networks.items() if network is not None}
    verdicts, scores, notes = _arbitrated(trained, reading, names, how.device)
    return JointOutcome(recipe, found, trained.curve, verdicts, scores, (*trained.notes, *notes))


def _one(recipe: JointNetRecipe, reading: Reading, how: How) -> JointOutcome:
    count = len(reading.lesson.values)
    trained = train_joint_net(
        build_joint_net(recipe, len(reading.frame.shape), max(2, count)),
        reading.cases,
        recipe,
        values=max(2, count),
        fused=reading.fused if recipe.fused_weight else {},
        spacing_mm=reading.frame.spacing_mm,
        **vars(how),
    )
    scores: dict[str, pd.DataFrame] = {}
    notes = [*trained.notes, "there is no separate network to hold it against: the alarm was not checked"]
    if trained.judging:
        judges = [case for case in reading.cases if case.id in trained.judging]
        others = reading.cases if recipe.pairs == "within" else [case for case in reading.cases if case not in judges]
        try:
            options: dict[str, Any] = {"pairs": recipe.pairs, "device": how.device}
            scores[NETWORK] = score_pairs(trained.network, judges, others, count, **options)
        except ValueError as error:
            notes.append(f"the held-out cases were not scored: {error}")
    return JointOutcome(recipe, {NETWORK: trained.network}, trained.curve, (), scores, tuple(notes))


def _arbitrated(
    trained: TrainedJoint, reading: Reading, names: Mapping[int, str], device: str
) -> tuple[tuple[Verdict, ...], dict[str, pd.DataFrame], tuple[str, ...]]:
    """Verdicts, the scores they rest on, and a sentence if they rest on less than they might."""
    if trained.segmentation is None or trained.segmentation_alone is None:
        return (), {}, ()
    networks = {SEGMENTATION: trained.segmentation, SEPARATE: trained.segmentation_alone}
    values, cases = reading.lesson.values, reading.cases
    called = {place: names.get(value) or f"label {value}" for place, value in enumerate(values)}
    if trained.judging:
        judges = [case for case in cases if case.id in trained.judging]
        scores = {name: score(network, judges, len(values), device=device) for name, network in networks.items()}
        return compare(scores[SEGMENTATION], scores[SEPARATE], names=called), scores, ()
    if reading.fused:
        scores = {
            name: score_against_fused(network, cases, reading.fused, len(values), device=device)
            for name, network in networks.items()
        }
        note = "no atlas was held out: the alarm was checked with fused labels, which see catastrophes and nothing less"
        return compare(scores[SEGMENTATION], scores[SEPARATE], names=called, truth="fused"), scores, (note,)
    return (), {}, ("no atlas was held out: the alarm could not be checked, and the joint network is used",)
