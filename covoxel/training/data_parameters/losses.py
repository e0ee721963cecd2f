"""Losses of data parameters: cross-entropy of each propagated label map, its weighting, and what keeps it honest."""

import math

import torch
from torch import Tensor


def class_weights(counts: Tensor, *, power: float = 0.35) -> Tensor:
    """Weight of each label in the cross-entropy, `1 / count^power`, scaled so that the mean over voxels is one.

    Parameters
    ----------
    counts
        `(label,)` voxels of each label over all pairs of the cohort. A label that does not occur counts one.
    power
        0 gives every label the same.
    """
    present = counts.double().clamp(min=1)
    weights = present**-power
    return (weights * (present.sum() / (weights * present).sum())).float()


def label_weights(label_maps: Tensor, valid: Tensor, weights: Tensor, labels: int) -> Tensor:
    """Sum over the atlases of `weights` times their indicators, divided by the voxels that any atlas sees.

    Cross-entropy is linear in the label: `sum_m w_m CE(f(x), y_m)` is the cross-entropy of `f(x)` against this sum. So
    all pairs of one image cost one pass of that image through the network.

    Parameters
    ----------
    label_maps, valid
        `(atlas, *shape)`, of a `PairedCase`.
    weights
        `(atlas,)`; differentiable.
    labels
        Number of labels.

    Returns
    -------
    Tensor
        `(label, *shape)` float32.
    """
    total = torch.zeros((labels, *label_maps.shape[1:]), dtype=torch.float32, device=label_maps.device)
    for label_map, mask, weight in zip(label_maps, valid, weights / seen_voxels(valid), strict=True):
        total = total.scatter_add(0, label_map[None].long(), (mask * weight)[None])
    return total


def seen_voxels(valid: Tensor) -> Tensor:
    """Number of voxels that any atlas sees, at least 1, of `valid` `(atlas, *shape)`."""
    return valid.any(0).sum().clamp(min=1)


def soft_cross_entropy(log_probabilities: Tensor, weighted_labels: Tensor, class_weight: Tensor) -> Tensor:
    """Cross-entropy, summed over labels and voxels, against the labels of `label_weights`; both `(label, *shape)`."""
    return -(class_weight.view(-1, *[1] * (weighted_labels.ndim - 1)) * log_probabilities * weighted_labels).sum()


def spatial_cross_entropy(log_probabilities: Tensor, label_maps: Tensor, valid: Tensor, class_weight: Tensor) -> Tensor:
    """Cross-entropy of each pair of one image, `(atlas,)`, over the voxels its atlas sees (in equation 2).

    Binary labels are two labels; with more, the cross-entropy is that of all labels at once, each voxel counted with
    the class weight of the label its atlas gives it. One parameter stays one number a pair: it is about the
    registration, which moves all labels together.

    The sum is divided by the voxels that any atlas sees, one number for all pairs of an image: divided by those of
    each atlas, a pair would be judged by how much easy background its atlas brings along.

    Parameters
    ----------
    log_probabilities
        `(label, *shape)`.
    label_maps, valid
        `(atlas, *shape)`.
    class_weight
        `(label,)`.

    References
    ----------
    Weihsbach et al., DeepSTAPLE, WBIR 2022, equation 2.
    """
    costs = -class_weight.view(-1, *[1] * (log_probabilities.ndim - 1)) * log_probabilities
    sums = [
        costs.gather(0, label_map[None].long())[0].mul(mask).sum()
        for label_map, mask in zip(label_maps, valid, strict=True)
    ]
    return torch.stack(sums) / seen_voxels(valid)


def data_parameter_loss(cross_entropy: Tensor, weights: Tensor) -> Tensor:
    """Equation 2: the cross-entropies of the pairs, `(pair,)`, each times its weight, summed."""
    return (cross_entropy * weights).sum()


def risk(log_probabilities: Tensor, valid: Tensor, class_weight: Tensor) -> Tensor:
    """Share of voxels that the network gives a structure, of those any atlas sees; one number (in equation 3).

    The count is hard, so that the term acts on the parameters and not on the network. With several labels every one
    but the background is positive, and a voxel counts with the class weight of its label, in which the cross-entropy
    is measured, too: the two are only compared, and must be so in one unit.

    Parameters
    ----------
    log_probabilities
        `(label, *shape)`.
    valid
        `(atlas, *shape)`.
    class_weight
        `(label,)`.

    References
    ----------
    Weihsbach et al., DeepSTAPLE, WBIR 2022, equation 3.
    """
    weight = class_weight.clone()
    weight[0] = 0
    return (weight[log_probabilities.argmax(0)] * valid.any(0)).sum() / seen_voxels(valid)


def fixed_weighting(foreground: Tensor) -> Tensor:
    """Factor of a pair's weight, `1 / (log(n + e) + e)`, n `(pair,)` the voxels its label map gives a structure.

    Equation 4. With several labels n is the number over all of them: what the factor makes up for is that parameters
    follow the amount of foreground, whichever structure it is.

    References
    ----------
    Weihsbach et al., DeepSTAPLE, WBIR 2022, equation 4 (the reading `log(n + e) + e` of its brackets).
    """
    return 1 / (torch.log(foreground.double() + math.e) + math.e).float()


def foreground_shares(label_maps: Tensor, valid: Tensor, class_weight: Tensor) -> Tensor:
    """Share of voxels that each atlas gives a structure, of those any atlas sees, `(atlas,)`; counted as in `risk`."""
    weight = class_weight.clone()
    weight[0] = 0
    sums = [(weight[label_map.long()] * mask).sum() for label_map, mask in zip(label_maps, valid, strict=True)]
    return torch.stack(sums) / seen_voxels(valid)


def relative_to_overlap(foreground: Tensor, predicted: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Factor of each pair's cross-entropy, and the risk, in units of the structure at stake; instead of equation 4.

    The cross-entropy is divided by the mean of the shares of voxels that the atlas and the network give a structure,
    the denominator of Dice: a large structure, on whose longer border more voxels are in doubt, is then no bad
    registration. The risk becomes 1, or 0 where the network predicts nothing: divided by a number of the pair, it
    would favour small label maps.

    Parameters
    ----------
    foreground, predicted
        Of `foreground_shares`, `(atlas,)`, and of `risk`.
    least
        Share below which there is little at stake: keeps the empty label map of an empty image from a division by
        zero.

    Returns
    -------
    tuple of Tensor
        Factors `(atlas,)`, and one number.
    """
    return 1 / (least + (foreground + predicted) / 2), predicted / (least + predicted)
