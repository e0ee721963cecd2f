"""The network and fusion together: what is cheap to compute is what the mean of all probabilities says."""

import pytest
import torch
from torch import Tensor

from covoxel.segmentation import Segmented
from covoxel.segmentation.combine import Labelled, combine
from covoxel.spatial import Grid, Image

GRID = Grid.from_spacing((6, 7, 5))
VALUES = torch.tensor([0, 3, 8, 9])


def said(probabilities: Tensor, grid: Grid = GRID) -> Segmented:
    return Segmented(grid, VALUES, probabilities, 0.0)


def fused(places: Tensor, confidence: Tensor, grid: Grid = GRID) -> Labelled:
    return Labelled(Image(VALUES[places], grid), Image(confidence, grid))


BOTH = "fusion+joint"


def combined(segmented: Segmented, of_fusion: Labelled) -> dict[str, Labelled]:
    return combine({"joint": segmented}, of_fusion)


def everywhere(value: float, places: int) -> tuple[Tensor, Tensor]:
    return torch.full(GRID.shape, places), torch.full(GRID.shape, value)


def test_the_mean_is_that_of_all_probabilities_voxel_by_voxel() -> None:
    generator = torch.Generator().manual_seed(2)
    probabilities = (3 * torch.randn((4, *GRID.shape), generator=generator)).softmax(0)
    places = torch.randint(0, 4, GRID.shape, generator=generator)
    confidence = torch.rand(GRID.shape, generator=generator)

    certain = confidence.clamp(min=0.25)
    of_fusion = ((1 - certain) / 3).expand(4, *GRID.shape).clone()
    of_fusion.scatter_(0, places[None], certain[None])
    mean = (probabilities + of_fusion) / 2

    found = combined(said(probabilities), fused(places, confidence))
    assert torch.equal(found[BOTH].label_map.data, VALUES[mean.argmax(0)])
    torch.testing.assert_close(found[BOTH].confidence.data, mean.amax(0))
    winner = probabilities.argmax(0)
    assert torch.equal(found["joint"].label_map.data, VALUES[winner])
    torch.testing.assert_close(found["joint"].confidence.data, mean.gather(0, winner[None])[0])
    assert 20 < int((found[BOTH].label_map.data != found["joint"].label_map.data).sum()) < 190


def test_agreement_counts_for_the_confidence_of_the_network() -> None:
    sure = torch.tensor([0.02, 0.9, 0.04, 0.04]).view(4, 1, 1, 1).expand(4, *GRID.shape)
    same = combined(said(sure), fused(*everywhere(0.8, 1)))
    other = combined(said(sure), fused(*everywhere(0.8, 2)))
    assert same["joint"].confidence.data[0, 0, 0] == pytest.approx((0.9 + 0.8) / 2)
    assert other["joint"].confidence.data[0, 0, 0] == pytest.approx((0.9 + 0.2 / 3) / 2)
    assert (other["joint"].label_map.data == 3).all()


def test_the_surer_of_the_two_is_believed_and_fusion_without_confidence_says_nothing() -> None:
    sure = torch.tensor([0.02, 0.9, 0.04, 0.04]).view(4, 1, 1, 1).expand(4, *GRID.shape)
    assert (combined(said(sure), fused(*everywhere(0.99, 2)))[BOTH].label_map.data == 8).all()
    assert (combined(said(sure), fused(*everywhere(0.7, 2)))[BOTH].label_map.data == 3).all()
    blind = combined(said(sure), fused(*everywhere(0.0, 0)))
    assert (blind[BOTH].label_map.data == 3).all()
    assert blind[BOTH].confidence.data[0, 0, 0] == pytest.approx((0.9 + 0.25) / 2)


def test_a_tie_goes_to_the_smaller_value() -> None:
    even = torch.tensor([0.1, 0.0, 0.9, 0.0]).view(4, 1, 1, 1).expand(4, *GRID.shape)
    # 0.9 + (1 - 0.85) / 3 = 0.95 of label 8; of background 0.1 + 0.85.
    assert (combined(said(even), fused(*everywhere(0.85, 0)))[BOTH].label_map.data == 0).all()
    assert (combined(said(even.flip(0).roll(1, 0)), fused(*everywhere(0.85, 3)))[BOTH].label_map.data == 8).all()


def test_what_does_not_fit_is_refused() -> None:
    even = torch.full((4, *GRID.shape), 0.25)
    places, confidence = everywhere(0.5, 1)
    unknown = Labelled(Image(places * 7, GRID), Image(confidence, GRID))
    with pytest.raises(ValueError, match="must know all labels of the atlases, and does not know 7"):
        combined(said(even), unknown)
    other = Grid.from_spacing((6, 7, 5), 2.0)
    with pytest.raises(ValueError, match="must lie on the grid of the fused ones"):
        combined(said(even, other), fused(places, confidence))


def test_two_networks_and_fusion_are_averaged_as_all_their_probabilities_say() -> None:
    generator = torch.Generator().manual_seed(5)
    one, two = (2 * torch.randn((2, 4, *GRID.shape), generator=generator)).softmax(1)
    places = torch.randint(0, 4, GRID.shape, generator=generator)
    confidence = torch.rand(GRID.shape, generator=generator)
    certain = confidence.clamp(min=0.25)
    of_fusion = ((1 - certain) / 3).expand(4, *GRID.shape).clone()
    of_fusion.scatter_(0, places[None], certain[None])
    mean = (one + two + of_fusion) / 3

    found = combine({"joint": said(one), "nnunet": said(two)}, fused(places, confidence))
    assert set(found) == {"joint", "nnunet", "fusion+joint", "fusion+nnunet", "fusion+joint+nnunet"}
    all_of_them = found["fusion+joint+nnunet"]
    assert torch.equal(all_of_them.label_map.data, VALUES[mean.argmax(0)])
    torch.testing.assert_close(all_of_them.confidence.data, mean.amax(0))
    torch.testing.assert_close(found["nnunet"].confidence.data, mean.gather(0, two.argmax(0)[None])[0])
    other = Segmented(GRID, torch.tensor([0, 1, 2, 3]), two, 0.0)
    with pytest.raises(ValueError, match="must know the same labels"):
        combine({"joint": said(one), "nnunet": other}, fused(places, confidence))
