"""Cross-entropy of probabilities against labels."""

from torch import Tensor

from covoxel.losses.base import LABEL_LOSSES, masked_mean
from covoxel.losses.labels.checks import checked


def cross_entropy(probabilities: Tensor, truth: Tensor, *, mask: Tensor | None = None, least: float = 1e-6) -> Tensor:
    r"""Mean surprise at the truth, nats a voxel; background counts.

    .. math:: -\operatorname{mean}_x w(x) \sum_k g_k \log \max(p_k, \epsilon)

    With a discriminator's map as mask, and the warped labels as truth, this is the loss of pseudo-labels of the
    reference.

    Parameters
    ----------
    probabilities, truth, mask
        As for `covoxel.losses.base.LabelLoss`.
    least
        The `ε` of the formula. Warped one-hot labels are often exactly 0; below `ε` the logarithm goes on as a straight
        line, finite and with a gradient.

    References
    ----------
    He et al., Deep complementary joint model for complex scene
    registration and few-shot segmentation on medical images, ECCV 2020.
    """
    probabilities, truth, inside = checked(probabilities, truth, mask)
    above = probabilities.clamp(min=least)
    logarithm = above.log() + (probabilities - above) / least
    return masked_mean(-(truth * logarithm).sum(1, keepdim=True), inside)


LABEL_LOSSES.register("cross_entropy")(cross_entropy)
