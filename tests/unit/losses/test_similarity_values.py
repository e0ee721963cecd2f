"""Values of the similarity measures that their formulas give, worked out by hand or another way."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from covoxel.losses.base import SIMILARITIES
from covoxel.losses.similarity.background_suppression import background_difference, background_suppression
from covoxel.losses.similarity.multi_resolution_ncc import multi_resolution_ncc
from covoxel.losses.similarity.ngf import ngf


def loss_of(name: str, fixed: Tensor, moved: Tensor, radius: int = 2) -> float:
    return float(SIMILARITIES[name](fixed, torch.ones_like(fixed), radius=radius)(moved))


def halves(low: float, high: float) -> Tensor:
    """Left half low, right half high, `(1, 1, 8, 8)`."""
    image = torch.full((1, 1, 8, 8), low)
    image[..., 4:] = high
    return image


def test_mutual_information_of_two_levels() -> None:
    """Levels on bin centres: one bit in the fixed image, all of it told, none of it, or told by a quarter of voxels."""
    fixed = halves(0.0, 1.0)
    assert loss_of("mi", fixed, halves(1.0, 0.0)) == pytest.approx(0, abs=1e-6)
    assert loss_of("mi", fixed, torch.full_like(fixed, 1.0)) == pytest.approx(math.log(2), rel=1e-5)
    assert loss_of("mi", fixed, fixed.transpose(2, 3)) == pytest.approx(math.log(2), rel=1e-5)
    partly = fixed.clone()
    partly[..., :4, :4] = 1  # shares: fixed 0 moved 0 a quarter, 0 and 1 a quarter, 1 and 1 a half
    joint = -(0.25 * math.log(0.25) * 2 + 0.5 * math.log(0.5))
    moved = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert loss_of("mi", fixed, partly) == pytest.approx(joint - moved, rel=1e-5)
    assert loss_of("nmi", fixed, partly) == pytest.approx(2 - (math.log(2) + moved) / joint, rel=1e-5)


def test_detail_that_is_told_costs_nothing_and_detail_that_is_made_up_does_not_either() -> None:
    """H(f | m): a moved image that says more than is asked is no worse, one that says less is."""
    fine = torch.linspace(0, 1, 32).expand(1, 1, 32, 32).contiguous()
    coarse = (fine > 0.5).float()
    assert loss_of("mi", coarse, fine) < 0.1
    assert loss_of("mi", fine, coarse) == pytest.approx(math.log(16), abs=0.1)


@pytest.mark.parametrize("shape", [(16, 12), (8, 12, 8)])
def test_resolutions_count_by_halves(shape: tuple[int, ...]) -> None:
    pool = functional.avg_pool2d if len(shape) == 2 else functional.avg_pool3d
    fixed, moved = torch.rand(2, 1, *shape).double(), torch.rand(2, 1, *shape).double()
    loss = multi_resolution_ncc(fixed, torch.ones_like(fixed), radius=1)(moved)
    expected = torch.zeros(2).double()
    for weight in (1.0, 0.5, 0.25):
        expected += weight * SIMILARITIES["lncc"](fixed, torch.ones_like(fixed), radius=1)(moved) / 1.75
        fixed, moved = pool(fixed, 2), pool(moved, 2)
    torch.testing.assert_close(loss, expected)


def test_background_counts_where_the_fixed_image_is_dark() -> None:
    fixed = halves(0.05, 0.6)
    ones = torch.ones_like(fixed)
    moved = halves(0.25, 0.9)
    assert float(background_difference(fixed, ones)(moved)) == pytest.approx(0.04 / 2)
    assert float(background_difference(fixed, ones, threshold=0.01)(moved)) == 0
    both = float(background_suppression(fixed, ones, weight=3.0)(moved))
    assert both == pytest.approx(loss_of("mi", fixed, moved) + 3 * 0.02, rel=1e-5)


def test_structural_similarity_of_flat_images_is_that_of_their_brightness() -> None:
    a, b = 0.4, 0.6
    expected = 1 - (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    flat = torch.ones(1, 1, 9, 9).double()
    assert loss_of("ssim", a * flat, b * flat) == pytest.approx(expected, rel=1e-6)
    inverted = halves(0.0, 1.0)
    assert loss_of("ssim", inverted, 1 - inverted) > 1


def test_structural_similarity_in_a_window_that_holds_all_is_that_of_the_whole() -> None:
    a, b = torch.rand(9, 9).double(), torch.rand(9, 9).double()
    covariance = ((a - a.mean()) * (b - b.mean())).mean()
    index = (2 * a.mean() * b.mean() + 1e-4) * (2 * covariance + 9e-4)
    index /= (a.mean() ** 2 + b.mean() ** 2 + 1e-4) * (a.var(correction=0) + b.var(correction=0) + 9e-4)
    assert loss_of("ssim", a[None, None], b[None, None], radius=9) == pytest.approx(1 - float(index), rel=1e-6)


def test_normalised_gradients_see_directions_and_not_contrast() -> None:
    i, j = torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="ij")
    along, across = 0.1 * i[None, None], 0.1 * j[None, None]
    share = (0.01 / (0.01 + 0.02**2)) ** 2
    assert loss_of("ngf", along, along) == pytest.approx(1 - share, rel=1e-4)
    assert loss_of("ngf", along, 1 - along) == pytest.approx(1 - share, rel=1e-4)
    assert loss_of("ngf", along, across) == pytest.approx(1)
    diagonal = (along + across) / math.sqrt(2)
    assert loss_of("ngf", along, diagonal) == pytest.approx(1 - share / 2, rel=1e-4)
    sharp = ngf(along, torch.ones_like(along), edge=1e-4)(along)
    assert float(sharp) == pytest.approx(0, abs=1e-5)
