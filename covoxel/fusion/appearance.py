"""What the look and the place of a voxel say about its label beyond the votes, learnt from the atlases themselves."""

from dataclasses import dataclass

import torch
from torch import Tensor

from covoxel.fusion.descriptors import MARGIN, Places, descriptors
from covoxel.fusion.source import Source
from covoxel.fusion.survey import Votes, votes_of
from covoxel.fusion.tiling import Window, bounding_window

_KNOTS = 8
_ROWS = 20_000
_RIDGE = 2e-3
_UNSURE = 1.5  # votes
_LEAST = 1e-9
_STEPS = 15
_CHUNK = 2**18  # voxels
_NUMBERS = 2**18  # of the regression that are in memory at once


@dataclass(frozen=True, eq=False)
class Appearance:
    """What was learnt about an image.

    Parameters
    ----------
    window
        Of the image, with all undecided voxels.
    places
        Of these.
    looks
        `(m, descriptor)`, what each looks like.
    weights
        `(input, label)` float64.
    """

    window: Window
    places: Places
    looks: Tensor
    weights: Tensor

    def score(self, part: Window, undecided: Tensor, labels: Tensor) -> Tensor:
        """Logarithm of how much likelier each label is for what a voxel looks like and where it lies.

        Parameters
        ----------
        part
            A window of the image.
        undecided
            `(*part)` bool, its m undecided voxels.
        labels
            Which labels are wanted, by their places in the source's list.

        Returns
        -------
        Tensor
            `(label, m)` float32. Unchanged (to rounding) by increasing changes of the contrast of any image.
        """
        rows = self.places.order(self._flat(part, undecided))
        weights = self.weights[:, labels]
        parts = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
        scores = [(_inputs(self.looks[own], self.places.of(own)).double() @ weights).float() for own in parts]
        return torch.cat(scores).T

    def _flat(self, part: Window, undecided: Tensor) -> Tensor:
        """Where the true voxels of a part are in the flattened window."""
        flat = torch.zeros((), dtype=torch.int64, device=undecided.device)
        for axis, (own, whole) in enumerate(zip(part, self.window, strict=True)):
            along = torch.arange(own.start, own.stop, device=undecided.device) - whole.start
            flat = flat * (whole.stop - whole.start) + along.view(-1, *[1] * (len(part) - axis - 1))
        return flat[undecided]


def appearance_of(source: Source) -> Appearance:
    """The appearance of the undecided voxels; the same for all rules, so learnt once for a source."""
    return source.once("appearance", lambda: learnt_appearance(source, votes_of(source)))


def learnt_appearance(source: Source, votes: Votes) -> Appearance:
    """Learn how much likelier each label is for what a voxel looks like and where it lies.

    Each atlas is taken in turn for an image whose labels are known and the others vote on it. A multinomial logistic
    regression is fitted to all of them at once that corrects the logarithm of the votes by smooth functions of the
    voxel's descriptors (the rank of its intensity, of the mean around it, of its contrast) and its place. Its
    correction for the image is the score: zero where look and place say nothing, for the shares of the votes of the
    others are right on average. One atlas at a time is in memory.

    Parameters
    ----------
    source
        The atlases.
    votes
        Of them; at least one voxel is undecided.

    References
    ----------
    Wang et al., A learning-based wrapper method to correct systematic errors in automatic image segmentation,
    NeuroImage 2011 (voxel-wise correction from features and place); van der Lijn et al., Hippocampus segmentation in
    MR images using atlas registration, voxel classification, and graph cuts, NeuroImage 2008.
    """
    window = bounding_window(votes.undecided, MARGIN)
    assert window is not None
    undecided = votes.undecided[window]
    places = Places(undecided)
    step = -(-source.atlases * len(places) // _ROWS)
    rows = slice(step // 2 if step // 2 < len(places) else 0, None, step)
    voxels = places.voxels(rows) + torch.tensor([side.start for side in window], device=undecided.device)
    place, inputs, seen, said = places.of(rows), [], [], []
    for atlas in range(source.atlases):
        moved, valid = source.look(atlas, window)
        there = valid[undecided][rows]
        inputs.append(_inputs(descriptors(moved, valid, undecided, rows), place)[there])
        said.append(source.indicators_at(atlas, voxels) * there)
        seen.append(there)
    own, within = torch.stack(said), torch.stack(seen)
    prior = _votes_of_others(own, within, votes.usual)
    target = torch.cat([o[:, there].T for o, there in zip(own, within, strict=True)]).double()
    weights = _learnt(torch.cat(inputs).double(), torch.cat(prior).double(), target)
    looks = descriptors(source.fixed[window], torch.ones_like(undecided), undecided)
    return Appearance(window, places, looks, weights)


def _votes_of_others(votes: Tensor, seen: Tensor, usual: Tensor) -> list[Tensor]:
    """Log of the share of the votes `(rows, label)` each atlas' voxels get from the others, and some votes unsure."""
    unsure = (_UNSURE * usual / usual.sum()).to(votes.dtype)
    total, voters = votes.sum(0), seen.sum(0)
    return [
        ((total - own) + unsure[:, None]).div_(voters - 1 + _UNSURE).clamp_(min=_LEAST).log_().T[there]
        for own, there in zip(votes, seen, strict=True)
    ]


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

    step = max(1, _NUMBERS // target.shape[1])
    parts = [slice(start, start + step) for start in range(0, len(design), step)]

    def loss() -> float:
        with torch.enable_grad():
            value = ridge * weights[1:].square().sum()
            (weights.grad,) = torch.autograd.grad(value, weights)
            total = float(value.detach())
            for part in parts:
                likelihood = torch.addmm(offset[part], design[part], weights).log_softmax(1)
                value = -(target[part] * likelihood).sum() / len(design)
                weights.grad += torch.autograd.grad(value, weights)[0]
                total += float(value.detach())
        return total

    search.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach()
