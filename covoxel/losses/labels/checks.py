"""What the label losses ask of their arguments."""

from torch import Tensor

from covoxel.losses.differences import weights


def checked(probabilities: Tensor, truth: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities, truth in their type, and the mask as weights `(batch, 1, *shape)`.

    Raises
    ------
    ValueError
        If shapes differ, or there is no label beside background.
    """
    if probabilities.shape != truth.shape or probabilities.shape[1] < 2:
        raise ValueError(
            "probabilities and truth must both be (batch, label, *shape) with two labels or more, "
            f"got {tuple(probabilities.shape)} and {tuple(truth.shape)}"
        )
    return probabilities, truth.to(probabilities.dtype), weights(probabilities, mask)
