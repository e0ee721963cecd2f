"""Squared difference of probabilities: regions agree without a label."""

from torch import Tensor

from covoxel.losses.base import LABEL_LOSSES, masked_mean
from covoxel.losses.labels.checks import checked


@LABEL_LOSSES.register("squared_error")
def squared_error(probabilities: Tensor, truth: Tensor, *, mask: Tensor | None = None) -> Tensor:
    r"""Mean over voxels of the squared difference, labels summed; background counts.

    .. math:: \operatorname{mean}_x \sum_k (p_k - g_k)^2

    Of the segmentations of a moved and a fixed image, this is the deep region constraint (printed with a minus, though
    it is minimised).

    Parameters
    ----------
    probabilities, truth, mask
        As for `covoxel.losses.base.LabelLoss`.

    References
    ----------
    He et al., Deep complementary joint model for complex scene registration and few-shot segmentation on medical
    images, ECCV 2020.
    """
    probabilities, truth, inside = checked(probabilities, truth, mask)
    return masked_mean(((probabilities - truth) ** 2).sum(1, keepdim=True), inside)
