"""Locally weighted vote: an atlas counts where it looks like the image, at the place nearby where it looks so most."""

from torch import Tensor

from covoxel.fusion.base import FUSION_RULES, Evidence
from covoxel.fusion.likeness import Kernel, weights_of
from covoxel.fusion.search import Look, Sight, vote_nearby


@FUSION_RULES.register("locally_weighted")
def locally_weighted(
    evidence: Evidence,
    *,
    kernel: Kernel = "ssd",
    radius: int = 2,
    power: float = 2.0,
    normalisation_radius: int | None = 6,
    search: int = 1,
    appearance: float = 1.0,
) -> Tensor:
    """Votes weighted by the likeness of the windows around the image's voxel and around the atlas' voxel.

    `ssd`: `w = exp(-power (d - d_min) / d_min)`, d the mean squared difference of the two windows after normalisation
    and d_min the least of all that vote at this voxel: the bandwidth tunes itself.
    `lncc`: `w = max(c, 0)^power`, c the correlation coefficient of the two windows.

    With `search` every atlas votes with each of its voxels up to so many away along every axis, each weighted by its
    own window; what registration left over within that reach is made good. With `appearance` the result is
    multiplied by the likelihood of the voxel's intensity under each label, to that power. Where all atlases agree
    on all labels nothing is left to weigh, and the label agreed on is kept. Windows hold only voxels inside the
    atlas' field of view.

    Parameters
    ----------
    evidence
        The warped atlases.
    kernel
        "ssd" or "lncc".
    radius
        Half side of the window in voxels; 2 is a window of 5 voxels.
    power
        How fast the weight falls with likeness; 0 gives every voter the same.
    normalisation_radius
        For "ssd": half side of the window whose mean and standard deviation normalise each intensity; None for
        those of the whole image.
    search
        Reach of the search in voxels; 0 looks at the same place alone. The work grows with `(2 search + 1)^n`.
    appearance
        Factor of the score of `covoxel.fusion.appearance`; 0 leaves it out.

    Returns
    -------
    Tensor
        `(label, *shape)` probabilities. Unchanged (to rounding) by increasing affine changes of any image's
        intensities.

    References
    ----------
    Artaechevarria et al., Combination strategies in multi-atlas image segmentation, IEEE TMI 2009;
    Coupé et al., Patch-based segmentation using expert priors, NeuroImage 2011.
    """
    if power < 0:
        raise ValueError(f"power must not be negative, got {power}")

    def weigh(sight: Sight) -> Tensor:
        return weights_of(sight.distance.flatten(0, 1), kernel, power).view_as(sight.distance)

    return vote_nearby(evidence, Look(kernel, radius, normalisation_radius, search), weigh, appearance)
