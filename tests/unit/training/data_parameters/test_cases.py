"""Cases: what fits together is taken, the rest is refused by name; evidence becomes maps of one byte a voxel."""

from typing import Any

import pytest
import torch

from covoxel.fusion import Evidence, fuse
from covoxel.training import PairedCase, paired_case, teacher

MAPS = torch.zeros(2, 4, 5, dtype=torch.uint8)
FIT: dict[str, Any] = {
    "id": "a",
    "fixed": torch.zeros(4, 5),
    "label_maps": MAPS,
    "valid": MAPS == 0,
    "atlas_ids": ("x", "y"),
}


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("fixed", torch.zeros(4), "2-D or 3-D"),
        ("atlas_ids", (), "an atlas or more"),
        ("atlas_ids", ("x", "x"), "unique"),
        ("label_maps", MAPS[:1], r"label_maps must have shape \(2, 4, 5\), got \(1, 4, 5\)"),
        ("label_maps", MAPS.float(), "integer type, got torch.float32"),
        ("label_maps", MAPS > 0, "integer type, got torch.bool"),
        ("valid", MAPS, "boolean"),
        ("valid", (MAPS == 0)[:, 1:], "valid must have shape"),
        ("fixed", torch.full((4, 5), torch.nan), "finite"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, value: object, rule: str) -> None:
    PairedCase(**FIT)
    with pytest.raises(ValueError, match=f"case a: .*{rule}"):
        PairedCase(**{**FIT, name: value})


def test_evidence_becomes_places_of_labels() -> None:
    """Values 0, 3 and 1035: places 0, 1 and 2; a tie goes to the smaller."""
    labels = torch.zeros(2, 3, 1, 4)
    labels[0, :, 0] = torch.tensor([[1.0, 0.2, 0.1, 0.5], [0.0, 0.6, 0.2, 0.5], [0.0, 0.2, 0.7, 0.0]])
    labels[1, 0] = 1
    values = torch.tensor([0, 3, 1035])
    evidence = Evidence(torch.zeros(1, 4), torch.zeros(2, 1, 4), labels, values, torch.ones(2, 1, 4, dtype=torch.bool))
    case = paired_case("a", evidence, ["x", "y"])
    assert case.label_maps.dtype == torch.uint8
    assert case.label_maps.tolist() == [[[0, 1, 2, 0]], [[0, 0, 0, 0]]]
    assert case.atlas_ids == ("x", "y")


def test_the_teacher_leaves_out_who_contradicts_the_rest() -> None:
    """Three atlases agree on a square; the label of the fourth lies elsewhere, and its image looks right."""
    square = torch.zeros(24, 20, dtype=torch.int64)
    square[6:14, 5:13] = 1
    maps = [square, square.roll(1, 0), square.roll(1, 1), square.roll(9, 0)]
    labels = torch.stack([torch.stack([(m == 0).float(), (m == 1).float()]) for m in maps])
    moved = torch.stack([m.float() for m in (*maps[:3], square)])
    valid = torch.ones((4, 24, 20), dtype=torch.bool)
    evidence = Evidence(square.float(), moved, labels, torch.tensor([0, 1]), valid)
    sound = fuse("majority", Evidence(square.float(), moved[:3], labels[:3], torch.tensor([0, 1]), valid[:3]))
    assert torch.equal(teacher(evidence, ("a", "b", "c", "far"), "majority"), sound.label_map)
    assert not torch.equal(sound.label_map, fuse("majority", evidence).label_map)
