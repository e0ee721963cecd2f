"""The evidence is checked, and errors name value and rule."""

import pytest
import torch

from covoxel.fusion import Evidence, fuse
from covoxel.fusion.base import smallest_winner


def parts(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "fixed": torch.zeros(4, 5),
        "moved": torch.zeros(2, 4, 5),
        "labels": torch.zeros(2, 3, 4, 5),
        "values": torch.tensor([0, 1, 5]),
        "valid": torch.ones(2, 4, 5, dtype=torch.bool),
        **changes,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"moved": torch.zeros(2, 5, 4)}, "moved must have shape"),
        ({"labels": torch.zeros(2, 2, 4, 5)}, r"labels must have shape \(2, 3, 4, 5\), got \(2, 2, 4, 5\)"),
        ({"valid": torch.ones(1, 4, 5, dtype=torch.bool)}, "valid must have shape"),
        ({"valid": torch.ones(2, 4, 5)}, "valid must be boolean"),
        ({"values": torch.tensor([1, 2, 5])}, "ascend from 0"),
        ({"values": torch.tensor([0, 5, 1])}, "ascend from 0"),
        ({"fixed": torch.zeros(4)}, "2-D or 3-D"),
    ],
)
def test_evidence_that_does_not_fit_is_refused(change: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Evidence(**parts(**change))


def test_an_unknown_rule_names_those_known() -> None:
    with pytest.raises(KeyError, match="majority"):
        fuse("plurality", Evidence(**parts()))


def test_a_tie_within_rounding_goes_to_the_first() -> None:
    probabilities = torch.tensor([[0.2, 0.5 - 1e-6, 0.4], [0.4, 0.5 + 1e-6, 0.2], [0.4, 0.0, 0.4001]])
    assert smallest_winner(probabilities).tolist() == [1, 0, 2]
