"""Facts: every stage that is read by key names what it files, and nothing else is taken for it."""

from pathlib import Path

import pytest

from covoxel.manifest import Manifest, Record
from tasks.facts import FuseFacts, NoFacts, RegisterFacts, ResultFacts, fits, read_record

RESULT = {"certainty": None, "ndim": 3, "volumes_mm3": {"1": 2, "10": 0.0}, "confidence": {"1": 0.5, "10": None}}
FUSED = {"quality": 0.5, "rule": "staple", "reason": "why", "predicted": {"staple": 0.5}, "rejected": {"a": "why"}}
ATLAS = {"likeness": 0.1, "agreement": None, "trust": None}


def test_what_is_whole_fits() -> None:
    assert fits(RESULT, ResultFacts)
    assert fits(RESULT | FUSED | {"atlases": {"b": ATLAS}, "more": 1}, FuseFacts)
    assert fits({"transforms": {}}, RegisterFacts)
    assert fits({}, NoFacts)


@pytest.mark.parametrize(
    "change",
    [
        {"quality": "0.5"},
        {"quality": True},
        {"rule": None},
        {"predicted": []},
        {"predicted": {"staple": "high"}},
        {"atlases": {"b": {"likeness": 0.1}}},
        {"atlases": ["b"]},
        {"volumes_mm3": {"one": 1.0}},
        {"volumes_mm3": {"1": None}},
        {"ndim": 4},
        {"confidence": None},
        {"rejected": {"a": 1}},
    ],
)
def test_what_is_of_another_kind_does_not_fit(change: dict[str, object]) -> None:
    assert not fits(RESULT | FUSED | {"atlases": {"b": ATLAS}} | change, FuseFacts)


def test_a_record_is_read_with_the_shape_that_its_reader_needs(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    manifest.write(Record("fuse", "c1", "m", {}, {}, "code", {}, RESULT))
    assert read_record(manifest, "fuse", "c1", ResultFacts) is not None
    assert read_record(manifest, "fuse", "c1", FuseFacts) is None
    assert read_record(manifest, "fuse", "c2", ResultFacts) is None
