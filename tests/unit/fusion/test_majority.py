"""Majority vote: counts that can be done by hand."""

import pytest
import torch
from torch.testing import assert_close

from covoxel.fusion import Evidence, fuse


def evidence() -> Evidence:
    """One row of voxels, three atlases: shares of background and label 1."""
    one = torch.tensor([[0.4, 0.4, 1.0], [0.4, 1.0, 1.0], [1.0, 1.0, 0.0]]).view(3, 1, 3)
    labels = torch.stack([1 - one, one], 1)
    valid = torch.ones(3, 1, 3, dtype=torch.bool)
    valid[2, 0, 2] = False
    return Evidence(torch.zeros(1, 3), torch.zeros(3, 1, 3), labels, torch.tensor([0, 1]), valid)


def test_soft_votes_are_averaged_over_those_who_see() -> None:
    fused = fuse("majority", evidence())
    assert_close(fused.probabilities[1, 0], torch.tensor([0.6, 0.8, 1.0]))
    assert fused.label_map.tolist() == [[1, 1, 1]]


def test_hard_votes_are_counted() -> None:
    fused = fuse("majority", evidence(), votes="hard")
    assert_close(fused.probabilities[1, 0], torch.tensor([1 / 3, 2 / 3, 1.0]))
    assert fused.label_map.tolist() == [[0, 1, 1]]


def test_another_word_for_votes_is_refused() -> None:
    with pytest.raises(ValueError, match="votes must be"):
        fuse("majority", evidence(), votes="loud")
