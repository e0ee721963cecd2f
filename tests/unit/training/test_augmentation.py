"""Augmentation: nothing by nothing, the same by the same seed, image and labels moved alike."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from covoxel.training.augmentation import Augmentation, b_spline, draw

NONE = Augmentation(rotation_rad=0, scale=0, shift=0, warp_vox=0, noise=0, gain=0)
SHAPES = [(21, 17), (13, 12, 9)]


def augment(image: Tensor, labels: Tensor, how: Augmentation, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    change = draw(tuple(image.shape), how, generator, "cpu")
    return change.image(image), change.labels(labels)


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_augmentation_changes_nothing(shape: tuple[int, ...]) -> None:
    image, labels = torch.randn(shape), torch.rand(3, *shape)
    moved, moved_labels = augment(image, labels, NONE, seeded())
    assert_close(moved, image, atol=1e-4, rtol=1e-4)
    assert_close(moved_labels, labels, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_image_and_labels_move_alike(shape: tuple[int, ...]) -> None:
    """Without noise; in the middle, where the border has no part."""
    image = torch.rand(shape)
    moved, moved_labels = augment(image, image[None], Augmentation(noise=0, gain=0), seeded())
    middle = tuple(slice(3, side - 3) for side in shape)
    assert_close(moved[middle], moved_labels[0][middle])
    assert (moved - image).abs().mean() > 0.01


@pytest.mark.parametrize("shape", SHAPES)
def test_a_seed_says_it_all(shape: tuple[int, ...]) -> None:
    image, labels = torch.randn(shape), torch.rand(2, *shape)
    first, again, other = (augment(image, labels, Augmentation(), seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_the_map_is_what_was_asked_for() -> None:
    """Standard deviations of the intensities' noise and of the displacement, over many draws."""
    image, labels = torch.zeros(40, 40), torch.zeros(1, 40, 40)
    generator = seeded()
    noise = [augment(image, labels, Augmentation(noise=0.5, gain=0), generator)[0].std() for _ in range(200)]
    assert max(noise) < 0.55
    assert 0.2 < float(torch.stack(noise).mean()) < 0.3
    warps = torch.stack([b_spline((40, 40), Augmentation(warp_vox=2.0), generator) for _ in range(50)])
    assert 0.8 < float(warps.std()) < 1.6  # a spline is smoother than its control points


def test_equal_control_points_give_a_constant_displacement(monkeypatch: pytest.MonkeyPatch) -> None:
    """The basis sums to one at every voxel, whatever the sides."""
    monkeypatch.setattr(torch, "randn", lambda shape, **_: torch.ones(shape))
    for shape in ((30, 17), (8, 9, 1)):
        field = b_spline(shape, Augmentation(warp_vox=1.5, control_vox=6.5), seeded(), count=2)
        assert_close(field, torch.full((2, len(shape), *shape), 1.5))


@pytest.mark.parametrize(("name", "value"), [("noise", -0.1), ("warp_vox", float("nan")), ("control_vox", 0.5)])
def test_strengths_are_checked(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Augmentation(**{name: value})
