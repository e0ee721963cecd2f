"""Weighting: how much each voxel and each case counts in the loss, and how often a case is drawn."""

import math
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Weighting:
    """How fused labels teach beside hand-made ones. A training without fused labels does not change by any of it.

    Parameters
    ----------
    power
        A voxel of a fused label map weighs its confidence to this power; 0: all weigh alike.
    ignore_below
        Voxels of less confidence are not seen by the loss at all, as those of nnU-Net's ignore label.
    fused_weight
        Of a fused case in the loss, beside 1 of a hand-labelled one; its own weight multiplies it.
    hand_share
        Least share of the patches that are drawn from hand-labelled cases; by their number where that is more.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    power: float = 1.0
    ignore_below: float = 0.0
    fused_weight: float = 1.0
    hand_share: float = 0.0

    def __post_init__(self) -> None:
        for name in ("power", "fused_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        for name in ("ignore_below", "hand_share"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {value}")
