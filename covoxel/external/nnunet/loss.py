"""nnU-Net's loss, Dice and cross-entropy, in which each voxel and each case has a weight."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_SMOOTH = 1e-5


class WeightedLoss(nn.Module):
    """Dice and cross-entropy of nnU-Net over all outputs of its network; with weights of 1 it is nnU-Net's own.

    A voxel's weight multiplies its part of every sum; voxels of weight 0 are as those of nnU-Net's ignore label. A
    case's weight multiplies its part of the loss.

    Parameters
    ----------
    batch_dice
        Whether Dice is that of the batch as one image, as the plans say.
    outputs
        Number of outputs; each counts half as much as the finer one before it, the coarsest nothing.
    """

    def __init__(self, batch_dice: bool, outputs: int) -> None:
        super().__init__()
        self.batch_dice = batch_dice
        shares = [0.5**place for place in range(outputs)]
        shares[-1] = 0.0 if outputs > 1 else 1.0
        self.shares = [share / sum(shares) for share in shares]

    def forward(self, outputs: Sequence[Tensor], labels: Tensor, weights: Tensor | None, cases: Tensor) -> Tensor:
        """The loss.

        Parameters
        ----------
        outputs
            Logits `(batch, label, *shape)` of the network, finest first.
        labels
            `(batch, 1, *shape)` of the finest.
        weights
            `(batch, 1, *shape)` of its voxels, 0 to 1; None: 1.
        cases
            `(batch,)` weights of cases.
        """
        total = outputs[0].new_zeros((), dtype=torch.float32)
        for share, logits in zip(self.shares, outputs, strict=True):
            if share:
                sides = logits.shape[2:]
                own = None if weights is None else _nearest(weights, sides)
                total = total + share * self.of_one(logits.float(), _nearest(labels, sides), own, cases)
        return total

    def of_one(self, logits: Tensor, labels: Tensor, weights: Tensor | None, cases: Tensor) -> Tensor:
        """The loss of one output, all of one shape."""
        target = labels.long()
        entropy = functional.cross_entropy(logits, target[:, 0], reduction="none")
        seen = torch.ones_like(entropy) if weights is None else weights[:, 0]
        each = (entropy * seen).flatten(1).sum(1) * cases
        return each.sum() / (seen > 0).sum().clamp(min=1) - self._dice(logits, target, weights, cases)

    def _dice(self, logits: Tensor, target: Tensor, weights: Tensor | None, cases: Tensor) -> Tensor:
        said = logits.softmax(1)[:, 1:]
        with torch.no_grad():
            truth = torch.zeros_like(logits).scatter_(1, target, 1.0)[:, 1:]
        axes = tuple(range(2, logits.ndim))
        seen = said if weights is None else said * weights
        counted = truth if weights is None else truth * weights
        sums = torch.stack([(seen * truth).sum(axes), counted.sum(axes), seen.sum(axes)])
        if self.batch_dice:
            sums = (sums * cases[None, :, None]).sum(1)
        both, true, guessed = sums.unbind(0)
        dice = (2 * both + _SMOOTH) / (true + guessed + _SMOOTH).clamp(min=1e-8)
        return dice.mean() if self.batch_dice else (dice * cases[:, None]).mean()


def _nearest(values: Tensor, sides: torch.Size) -> Tensor:
    return values if values.shape[2:] == sides else functional.interpolate(values.float(), sides, mode="nearest-exact")
