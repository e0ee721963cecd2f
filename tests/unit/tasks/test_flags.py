"""Flags: a lost structure, an odd volume and a low predicted Dice are named; what is usual is not."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from covoxel.fusion.facts import CLEAN, Fact
from covoxel.fusion.quality import NAMES
from covoxel.manifest import Manifest, Record
from tasks.flags import atlases_of, flags_of, quality_flags, volume_flags
from tasks.layout import Layout

NAMES_OF_LABELS = {1: "anterior", 2: "posterior"}


class Toy:
    """As much of a study as flags are made of: three atlases, and case c with a result."""

    def __init__(self, output: Path, atlases: Mapping[str, Mapping[str, float]], names: Mapping[int, str]) -> None:
        self.atlases = [SimpleNamespace(id=name) for name in atlases]
        self.cohort = SimpleNamespace(label_names=names, atlases=self.atlases)
        self.manifest, self.layout, self.flags = Manifest(output), Layout(output), dict[str, list[str]]()
        self.records: dict[str, dict[str, Record]] = {"check": {}, "fuse": {}, "register": {}}
        for name, volumes in atlases.items():
            self.file("check", name, {"label_values": [0, *(int(label) for label, each in volumes.items() if each)]})
            self.file("fuse", name, {"volumes_mm3": dict(volumes)})

    def file(self, stage: str, case: str, facts: Mapping[str, Any]) -> None:
        self.records.setdefault(stage, {})[case] = Record(stage, case, "m", {}, {}, "code", {}, facts)

    def record(self, stage: str, case: str) -> Record | None:
        return self.records.get(stage, {}).get(case)

    def final(self, case: str) -> Record | None:
        return self.record("decide", case) or self.record("fuse", case)

    def is_sound(self, case: str) -> bool:
        return True


@pytest.fixture
def study(tmp_path: Path) -> Any:
    volumes = {"a1": {"1": 100.0, "2": 50.0}, "a2": {"1": 200.0, "2": 0.0}, "a3": {"1": 150.0}}
    return Toy(tmp_path, volumes, NAMES_OF_LABELS)


@pytest.mark.parametrize(
    ("volumes", "flags"),
    [
        ({"1": 120.0, "2": 50.0}, []),
        ({"1": 120.0, "2": 0.0}, ["structure 2 (posterior) was not found"]),
        ({"1": 120.0}, ["structure 2 (posterior) was not found"]),
        ({"2": 60.0}, ["structure 1 (anterior) was not found"]),
        ({"1": 0.0, "2": 0.0}, ["no structure was found"]),
        ({}, ["no structure was found"]),
        ({"1": 600.0, "2": 17.0}, []),
        ({"1": 601.0, "2": 50.0}, ["structure 1 (anterior) has 3 times the largest volume of an atlas"]),
        ({"1": 33.0, "2": 50.0}, ["structure 1 (anterior) has 0.33 times the smallest volume of an atlas"]),
        ({"1": 1e5, "2": 5e4, "7": 3.0}, [
            "structure 1 (anterior) has 5e+02 times the largest volume of an atlas",
            "structure 2 (posterior) has 1e+03 times the largest volume of an atlas",
        ]),
    ],
)  # fmt: skip
def test_structures_that_are_lost_or_of_an_odd_size_are_named(
    study: Any, volumes: dict[str, float], flags: list[str]
) -> None:
    assert volume_flags(study, volumes) == flags


@pytest.mark.parametrize("stage", ["fuse", "decide"])
def test_results_of_fusion_and_of_networks_are_flagged_alike(study: Any, stage: str) -> None:
    study.file(stage, "c", {"quality": 0.9, "volumes_mm3": {"1": 120.0, "2": 0.0}, "corrected": True})
    assert flags_of(study, "c") == ["structure 2 (posterior) was not found"]


def test_a_structure_without_a_name_is_called_by_its_value(tmp_path: Path) -> None:
    study: Any = Toy(tmp_path, {"a1": {"3": 1.0, "17": 2.0}}, {})
    assert volume_flags(study, {"3": 1.0}) == ["structure 17 was not found"]


def test_atlases_are_not_flagged_for_what_they_never_had(study: Any) -> None:
    assert flags_of(study, "a2") == flags_of(study, "a3") == []


def test_a_run_that_keeps_no_atlas_takes_volumes_of_an_earlier_one(study: Any) -> None:
    kept = {"certainty": None, "ndim": 3, "volumes_mm3": {"1": 10.0}, "confidence": {"1": None}}
    study.records["fuse"].clear()
    assert volume_flags(study, {"1": 1000.0, "2": 1.0}) == []
    study.manifest.write(Record("fuse", "a1", "m", {}, {}, "code", {}, kept))
    study.file("fuse", "c9", {})
    assert volume_flags(study, {"1": 1000.0, "2": 1.0}) == [
        "structure 1 (anterior) has 1e+02 times the largest volume of an atlas"
    ]


@pytest.mark.parametrize(
    ("predicted", "usual", "is_flagged"),
    [
        (None, None, False),
        (0.35, None, True),
        (0.51, None, False),
        (0.85, 0.87, False),
        (0.71, 0.87, False),
        (0.35, 0.87, True),
        (0.65, 0.87, True),
        (0.55, 0.6, False),
        (0.45, 0.3, True),
    ],
)
def test_a_low_predicted_dice_is_flagged_also_against_the_atlases(
    study: Any, predicted: float | None, usual: float | None, is_flagged: bool
) -> None:
    for name in ("a1", "a2") if usual is not None else ():
        fact = Fact(name, "majority", CLEAN, dict.fromkeys(NAMES, 0.5), usual or 0.0)
        study.file("calibrate", name, {"facts": [fact.to_json()]})
    assert atlases_of(study).dice == usual
    flags = quality_flags(study, predicted)
    assert bool(flags) == is_flagged
    study.file("fuse", "c", {"quality": predicted, "volumes_mm3": {"1": 120.0, "2": 50.0}})
    assert flags_of(study, "c") == flags
    if is_flagged:
        assert flags[0].startswith(f"the result may be wrong: predicted Dice {predicted:.2f}")
