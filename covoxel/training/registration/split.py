"""Split of the cases into those that teach and those that judge; nobody is on both sides."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from covoxel.training.registration.cases import TrainingCase
from covoxel.training.registration.recipe import Recipe
from covoxel.training.seeds import generator


@dataclass(frozen=True)
class Split:
    """Places of the cases that teach and of those that judge, and what is worth saying about it."""

    teaching: tuple[int, ...]
    judging: tuple[int, ...]
    notes: tuple[str, ...] = ()


def split(cases: Sequence[TrainingCase], recipe: Recipe) -> Split:
    """Hold out whole subjects, at random, until they are the recipe's share of the cases.

    With supervision "labels", and labels for less than half of the cases, those with labels all teach. Where too few
    cases would be left to teach or to make a pair, none is held out: training then is judged on its own cases.
    """
    everyone = tuple(range(len(cases)))
    if not recipe.held_out:
        return Split(everyone, everyone, ("no case was held out: training was judged on its own cases",))
    wanted = max(round(recipe.held_out * len(cases)), _least(recipe))
    people: dict[str, list[int]] = {}
    for place, case in enumerate(cases):
        people.setdefault(case.person, []).append(place)
    candidates = [places for places in people.values() if not _is_needed(places, cases, recipe)]
    order = torch.randperm(len(candidates), generator=generator(recipe.seed, "held out")).tolist()
    judging: list[int] = []
    for index in order:
        if len(judging) < wanted:
            judging += candidates[index]
    teaching = tuple(place for place in everyone if place not in set(judging))
    if not (has_pairs(cases, judging, recipe) and has_pairs(cases, teaching, recipe)):
        return Split(everyone, everyone, ("too few cases to hold any out: training was judged on its own cases",))
    return Split(teaching, tuple(sorted(judging)))


def _least(recipe: Recipe) -> int:
    return 1 if recipe.supervision == "warps" else 2


def _is_needed(places: list[int], cases: Sequence[TrainingCase], recipe: Recipe) -> bool:
    """Whether a person's labels are too rare not to be learnt from."""
    if recipe.supervision != "labels":
        return False
    labelled = sum(case.labels is not None for case in cases)
    return 2 * labelled < len(cases) and any(cases[place].labels is not None for place in places)


def has_pairs(cases: Sequence[TrainingCase], places: Sequence[int], recipe: Recipe) -> bool:
    """Whether at least one pair of the recipe's kind can be drawn among the cases at `places`."""
    if recipe.supervision == "warps":
        return len(places) > 0
    people = [cases[place].person for place in places]
    if recipe.pairs == "within":
        return len(set(people)) < len(people)
    return len(set(people)) > 1
