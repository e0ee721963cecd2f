"""Toys: discs whose fused labels are a voxel too large, and a network that is quick to learn."""

import torch
from torch import Tensor, nn

from covoxel.training.correction import CorrectionCase, CorrectionSettings
from covoxel.training.joint.recipe import SegmentationAugmentation
from nets.segmentation.unet import UNet

STILL = SegmentationAugmentation(0, 0, 0, 0, 8, 0, 0)
SIDE = 24


def disc(radius: float, centre: tuple[float, float], side: int = SIDE) -> Tensor:
    """`(side, side)` bool."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def case(number: int, *, dilated: int = 1, subject: str = "", side: int = SIDE) -> CorrectionCase:
    """A disc that is not the same for any two numbers, and its fused label, so many voxels too large."""
    source = torch.Generator().manual_seed(number)
    shift = (torch.rand(2, generator=source) * 4 - 2 + (side - 1) / 2).tolist()
    radius = 4 + float(torch.rand(1, generator=source)) * 2
    truth, fused = (disc(radius + more, (shift[0], shift[1]), side) for more in (0, dilated))
    image = truth.float() + 0.05 * torch.randn(side, side, generator=source)
    probabilities = torch.stack([1 - 0.9 * fused.float(), 0.9 * fused.float()])
    return CorrectionCase(f"a{number}", image, probabilities, truth.long(), subject)


def cases(count: int = 4, **options: int) -> list[CorrectionCase]:
    """So many discs."""
    return [case(number, **options) for number in range(count)]


def build() -> nn.Module:
    """The same small network at every call."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return UNet(ndim=2, labels=2, inputs=2, widths=(4, 8))


def settings(steps: int = 20, **options: object) -> CorrectionSettings:
    """Quick ones."""
    chosen = {"steps": steps, "warm_up": 2, "learning_rate": 2e-2, "augmentation": STILL, "check_every": 5} | options
    return CorrectionSettings(**chosen)  # type: ignore[arg-type]
