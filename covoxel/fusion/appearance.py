"""How likely an intensity is for each label, learnt from the atlases where they disagree."""

import torch
from torch import Tensor

_SAMPLE = 100_000
_PRIOR_VOTES = 10.0
_NO_VOTE = 1e-6


def appearance_likelihood(fixed: Tensor, moved: Tensor, labels: Tensor, valid: Tensor, *, bins: int = 32) -> Tensor:
    """Likelihood of the image's intensities under each label, up to a factor a voxel.

    Each image's intensities are put into bins that hold as many of its voxels each: what counts is the rank among the
    same voxels, so any increasing change of contrast of any image is without effect. A label's likelihood is the
    share of its votes in a bin; to every label ten votes a bin, spread as those of all labels together, are added, so
    that one hardly voted for is neither likely nor unlikely.

    Parameters
    ----------
    fixed
        `(m)` intensities of the image at the voxels in question.
    moved, valid
        `(atlas, m)` intensities of the atlases there, and whether they see the voxel.
    labels
        `(atlas, label, m)` their votes.
    bins
        Number of bins.

    Returns
    -------
    Tensor
        `(label, m)` float32, positive.

    References
    ----------
    van der Lijn et al., Hippocampus segmentation in MR images using atlas registration, voxel classification, and
    graph cuts, NeuroImage 2008 (an intensity model beside the votes).
    """
    votes = torch.zeros((labels.shape[1], bins), dtype=torch.float64, device=labels.device)
    for image, own, seen in zip(moved, labels, valid, strict=True):
        place = _ranked(image[seen], bins)
        for label, vote in enumerate(own):
            votes[label] += torch.bincount(place, weights=vote[seen].double(), minlength=bins)
    everyone = votes.sum(0) + _NO_VOTE
    votes += _PRIOR_VOTES * bins * everyone / everyone.sum()
    likelihood = bins * votes / votes.sum(1, keepdim=True)
    return likelihood.float()[:, _ranked(fixed, bins)]


def _ranked(intensities: Tensor, bins: int) -> Tensor:
    """Bin, 0 to `bins` - 1, of each of `intensities` `(m)` between their own quantiles."""
    if not len(intensities):
        return torch.zeros(0, dtype=torch.int64, device=intensities.device)
    sample = intensities[:: max(1, len(intensities) // _SAMPLE)].contiguous()
    edges = torch.quantile(sample, torch.linspace(0, 1, bins + 1, device=sample.device, dtype=sample.dtype)[1:-1])
    return torch.bucketize(intensities.contiguous(), edges)
