"""What the look and the place of a voxel say about its label beyond the votes, learnt from the atlases themselves."""

import torch
from torch import Tensor

from covoxel.fusion.base import Evidence
from covoxel.fusion.descriptors import descriptors, places

_KNOTS = 8
_ROWS = 20_000
_RIDGE = 2e-3
_UNSURE = 1.5  # votes
_LEAST = 1e-9
_STEPS = 15
_CHUNK = 2**18  # voxels


def appearance_score(evidence: Evidence, undecided: Tensor) -> Tensor:
    """Logarithm of how much likelier each label is for what a voxel looks like and where it lies.

    Each atlas is taken in turn for an image whose labels are known and the others vote on it. A multinomial logistic
    regression is fitted to all of them at once that corrects the logarithm of the votes by smooth functions of the
    voxel's descriptors (the rank of its intensity, of the mean around it, of its contrast) and its place. Its
    correction for the image is returned: zero where look and place say nothing, for the shares of the votes of the
    others are right on average.

    Parameters
    ----------
    evidence
        The warped atlases, cropped to the undecided voxels and `descriptors.MARGIN` voxels around.
    undecided
        `(*shape)` bool, the m voxels to learn from and to judge.

    Returns
    -------
    Tensor
        `(label, m)` float32. Unchanged (to rounding) by increasing changes of the contrast of any image.

    References
    ----------
    Wang et al., A learning-based wrapper method to correct systematic errors in automatic image segmentation,
    NeuroImage 2011 (voxel-wise correction from features and place); van der Lijn et al., Hippocampus segmentation in
    MR images using atlas registration, voxel classification, and graph cuts, NeuroImage 2008.
    """
    votes = evidence.labels[:, :, undecided] * evidence.valid[:, None, undecided]
    seen = evidence.valid[:, undecided]
    place = places(undecided)
    step = -(-seen.numel() // _ROWS)
    rows = slice(step // 2 if step // 2 < len(place) else 0, None, step)
    prior = _votes_of_others(votes, seen, rows)
    inputs = [
        _inputs(descriptors(moved, valid, undecided)[rows], place[rows])[own]
        for moved, valid, own in zip(evidence.moved, evidence.valid, seen[:, rows], strict=True)
    ]
    design, offset = torch.cat(inputs).double(), torch.cat(prior).double()
    target = torch.cat([own[:, rows].T[there[rows]] for own, there in zip(votes, seen, strict=True)]).double()
    weights = _learnt(design, offset, target)
    looks = descriptors(evidence.fixed, torch.ones_like(undecided), undecided)
    parts = [slice(start, start + _CHUNK) for start in range(0, len(looks), _CHUNK)]
    return torch.cat([(_inputs(looks[part], place[part]).double() @ weights).float() for part in parts]).T


def _votes_of_others(votes: Tensor, seen: Tensor, rows: slice) -> list[Tensor]:
    """Log of the share of the votes `(rows, label)` each atlas' voxels get from the others, and some votes unsure."""
    usual = votes.sum((0, 2), dtype=torch.float64)
    usual = (_UNSURE * usual / usual.sum()).to(votes.dtype)
    total, voters = votes[:, :, rows].sum(0), seen[:, rows].sum(0)
    shares = [
        ((total - own[:, rows]) + usual[:, None]).div_(voters - 1 + _UNSURE).clamp_(min=_LEAST).log_().T[there[rows]]
        for own, there in zip(votes, seen, strict=True)
    ]
    return shares


def _inputs(looks: Tensor, place: Tensor) -> Tensor:
    """Inputs of the regression, a constant first: tents over every descriptor, the place, and the products of both."""
    knots = torch.linspace(0, 1, _KNOTS, device=looks.device)
    tents = (1 - (looks[..., None] - knots).abs() * (_KNOTS - 1)).clamp_(min=0).flatten(1)
    together = ((looks - 0.5)[:, :, None] * place[:, None]).flatten(1)
    return torch.cat([torch.ones_like(place[:, :1]), tents, place, together], 1)


def _learnt(design: Tensor, offset: Tensor, target: Tensor) -> Tensor:
    """Weights `(input, label)` that make the cross-entropy of `softmax(design @ weights + offset)` least.

    All but those of the first input, the constant, are kept small, the more so the fewer rows there are.
    """
    weights = design.new_zeros((design.shape[1], target.shape[1]), requires_grad=True)
    ridge = _RIDGE * max(1.0, _ROWS / len(design))
    search = torch.optim.LBFGS(
        [weights], max_iter=_STEPS, line_search_fn="strong_wolfe", tolerance_grad=1e-8, tolerance_change=1e-12
    )

    def loss() -> float:
        with torch.enable_grad():
            likelihood = torch.addmm(offset, design, weights).log_softmax(1)
            value = ridge * weights[1:].square().sum() - (target * likelihood).sum(1).mean()
            (weights.grad,) = torch.autograd.grad(value, weights)
        return float(value.detach())

    search.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach()
