"""Alignment: what a discriminator says of moved images, what it learns, and what others learn from it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from covoxel.losses.base import masked_mean
from covoxel.spatial.smoothing import cell_means
from covoxel.training.joint.batch import JointPairs
from covoxel.training.joint.objective import coordinates_of, frozen
from covoxel.training.joint.recipe import JointRecipe
from covoxel.training.registration.answer import cells
from covoxel.training.registration.objective import full_precision
from covoxel.training.registration.pairs import sample_all


@contextmanager
def held(network: nn.Module, like: Tensor) -> Iterator[nn.Module]:
    """The network as it answers out of training, where `like` is; gradients reach its images and not its weights."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield frozen(network, like)
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def logits_of(discriminator: nn.Module, candidate: Tensor, fixed: Tensor) -> tuple[Tensor, int]:
    """Logits of being aligned, `(batch, 1, *cells)` float32, and the voxels to a cell along each axis.

    Raises
    ------
    ValueError
        If the discriminator says anything else of images `(batch, 1, *shape)`.
    """
    logits: Tensor = discriminator(candidate, fixed)
    if logits.ndim != fixed.ndim or tuple(logits.shape[:2]) != (fixed.shape[0], 1):
        wanted = (fixed.shape[0], 1, *["cells"] * (fixed.ndim - 2))
        raise ValueError(f"the discriminator must say logits of {wanted}, got {tuple(logits.shape)}")
    return logits.float(), cells(fixed.shape[2:], logits.shape[2:])


def surprise(logits: Tensor, factor: int, mask: Tensor, *, aligned: bool) -> Tensor:
    """Mean over cells, `(batch,)`, of the negative logarithm of the probability of being aligned, or of not being so.

    Parameters
    ----------
    logits, factor
        As of `logits_of`.
    mask
        `(batch, 1, *shape)` weights of the voxels.
    aligned
        Which of both.
    """
    with full_precision(mask):
        weights = cell_means(mask, [min(factor, side) for side in mask.shape[2:]])
        return masked_mean(functional.softplus(-logits if aligned else logits), weights)


def moved_of(pairs: JointPairs, displacement_vox: Tensor) -> tuple[Tensor, Tensor]:
    """Moving images seen from the fixed ones, and where both have data, `(batch, 1, *shape)` each."""
    moving = pairs.moving
    with full_precision(displacement_vox):
        coordinates = coordinates_of(displacement_vox)
        moved, seen, _ = sample_all(moving.image, moving.mask, moving.labels[:0], coordinates)
        return moved, pairs.fixed.mask * seen


class DiscriminatorObjective:
    r"""Loss of the discriminator: :math:`-\log D(\beta I_m + (1 - \beta) I_f, I_f) - \log(1 - D(I_m \circ \Phi, I_f))`.

    Parameters
    ----------
    recipe
        Of all networks, with `complementary` settings.

    Attributes
    ----------
    registrar
        The registration network; set before the first call.

    References
    ----------
    He et al., Deep complementary joint model for complex scene registration and few-shot segmentation on medical
    images, ECCV 2020.
    """

    registrar: nn.Module

    def __init__(self, recipe: JointRecipe) -> None:
        assert recipe.complementary is not None
        self.mixed_share = recipe.complementary.discriminator.mixed_share

    def __call__(self, network: nn.Module, pairs: JointPairs) -> dict[str, Tensor]:
        """Parts of the loss of each pair, "mixed" and "moved", `(batch,)`; not numbers if the displacement is none."""
        fixed, moving = pairs.fixed, pairs.moving
        with torch.no_grad():
            said = frozen(self.registrar, fixed.image)(fixed.image, moving.image).displacement_vox.float()
            finite = said.flatten(1).isfinite().all(1)
            moved, mask = moved_of(pairs, said.nan_to_num(0, 0, 0))
            mixed = torch.lerp(fixed.image, moving.image, self.mixed_share)
        logits, factor = logits_of(network, torch.cat([mixed, moved]), torch.cat([fixed.image] * 2))
        of_mixed, of_moved = logits.chunk(2)
        return {
            "mixed": surprise(of_mixed, factor, fixed.mask * moving.mask, aligned=True),
            "moved": surprise(of_moved, factor, mask, aligned=False) + torch.where(finite, 0.0, torch.nan).to(logits),
        }
