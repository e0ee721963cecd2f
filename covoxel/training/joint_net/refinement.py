"""Refinement at test time: the transform of one pair goes on from what a network says until its structures agree."""

from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from covoxel.losses.base import masked_mean
from covoxel.losses.regularisation.diffusion import diffusion
from covoxel.spatial import velocity, warp
from covoxel.spatial.field import compose
from covoxel.spatial.smoothing import refine
from covoxel.training.joint_net.answer import JointLike, JointNetwork
from covoxel.training.registration.objective import full_precision

_CELL = 2
"""Voxels to a cell of the velocity, a side."""
_SQUARINGS = 7


@runtime_checkable
class Mapped(Protocol):
    """A network that registers maps of structures; see `nets.joint.istn`."""

    def structure_map(self, probabilities: Tensor) -> Tensor:
        """Map `(batch, channel, *shape)` of probabilities `(batch, label, *shape)`."""
        ...


@dataclass(frozen=True, eq=False)
class RefinedStructures:
    """A transform whose structures agree.

    Parameters
    ----------
    displacement_vox
        `(batch, n, *shape)` from fixed to moving.
    before, after
        `(batch,)` mean squared difference of the fixed and the moved map, as the network said and as refined.
    fixed
        `(batch, label, *shape)` probabilities that the network says of the fixed image.
    """

    displacement_vox: Tensor
    before: Tensor
    after: Tensor
    fixed: Tensor


def refine_structures(
    network: nn.Module,
    fixed: Tensor,
    moving: Tensor,
    moving_labels: Tensor | None = None,
    steps: int = 50,
    rate: float = 0.1,
    *,
    regularity: float = 0.05,
    mask: Tensor | None = None,
) -> RefinedStructures:
    r"""Make the structures that a network sees in both images of a pair agree; no fixed label is read.

    With maps of structures `F'` and `M'`, the transform :math:`\Phi` of the network and a stationary velocity `v`,

    .. math:: \min_v \; |M' \circ \Phi \circ \exp(v) - F'|^2 + \lambda |\nabla v|^2

    by Adam from `v = 0`. A pair that is worse in the end keeps what the network said.

    Parameters
    ----------
    network
        See `nets.joint.JointNet`; one that says how it maps structures, as `istn`, is asked for it, of others the
        probabilities of all labels but background are the map. Left in evaluation mode, unchanged.
    fixed, moving
        `(batch, 1, *shape)`, intensities of about 0 to 1, where the network is.
    moving_labels
        `(batch, label, *shape)` probabilities; None for what the network says of the moving image.
    steps
        Of Adam; 0 leaves what the network said.
    rate
        Of Adam, voxels of the velocity's grid, whose cells have two voxels a side.
    regularity
        The `λ` of the formula.
    mask
        `(batch, 1, *shape)` weights 0 to 1 of the voxels that are compared.

    Returns
    -------
    RefinedStructures

    Raises
    ------
    ValueError
        If steps, rate or regularity are out of range, nothing says the structures of the moving image, or the network
        says a displacement that is not finite.

    References
    ----------
    Lee et al., Image-and-spatial transformer networks for structure-guided image registration, MICCAI 2019. Different
    here: the displacement is refined, not the weights of the network.
    """
    for name, value in (("steps", steps), ("regularity", regularity)):
        if not value >= 0:
            raise ValueError(f"{name} must not be negative, got {value}")
    if not rate > 0:
        raise ValueError(f"rate must be positive, got {rate}")
    network.eval()
    with torch.no_grad():
        said = cast(JointNetwork, network)(fixed, moving, moving_labels)
    with full_precision(fixed):
        to, of = _maps(network, said, moving_labels)
        start = said.registered.displacement_vox.detach().float()
        if not start.isfinite().all():
            raise ValueError("the network says a displacement that is not finite")
        inside = torch.ones_like(to[:, :1]) if mask is None else mask.to(to)
        found = _descended(start, to, of, inside, steps, rate, regularity)
        before, after = (_apart(u, to, of, inside) for u in (start, found))
        better = (after < before).view(-1, *[1] * (start.ndim - 1))
        displacement = torch.where(better, found, start)
    return RefinedStructures(displacement, before, torch.minimum(before, after), said.fixed_logits.float().softmax(1))


def _maps(network: nn.Module, said: JointLike, moving_labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Maps of the structures of fixed and moving image, `(batch, channel, *shape)`, without gradient."""
    if moving_labels is None and said.moving_logits is None:
        raise ValueError("moving_labels must be given for a network that segments the fixed image alone, got None")
    theirs = said.moving_logits.float().softmax(1) if moving_labels is None else moving_labels.float()  # type: ignore[union-attr]
    both = said.fixed_logits.float().softmax(1), theirs
    with torch.no_grad():
        ours, other = (network.structure_map(x) if isinstance(network, Mapped) else x[:, 1:] for x in both)
    return ours, other


def _apart(displacement_vox: Tensor, to: Tensor, of: Tensor, inside: Tensor) -> Tensor:
    """Mean squared difference, channels summed, `(batch,)`."""
    return masked_mean(((warp(of, displacement_vox) - to) ** 2).sum(1, keepdim=True), inside)


@torch.enable_grad()
def _descended(
    start: Tensor, to: Tensor, of: Tensor, inside: Tensor, steps: int, rate: float, regularity: float
) -> Tensor:
    """The displacement after the steps."""
    shape = start.shape[2:]
    found = start.new_zeros((*start.shape[:2], *(-(-side // _CELL) for side in shape))).requires_grad_()
    optimiser = torch.optim.Adam([found], lr=rate)

    def displacement() -> Tensor:
        small = velocity.exp(found, squarings=_SQUARINGS)
        return compose(start, _CELL * refine(small, [_CELL] * len(shape), shape))

    for _ in range(steps):
        optimiser.zero_grad()
        loss = _apart(displacement(), to, of, inside) + regularity * diffusion(found)
        loss.sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return displacement().detach()
