"""DeepRS' objectives: labels moved partway, confidence in alignment, and regions that agree without a label."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from covoxel.losses.base import LABEL_LOSSES, masked_mean
from covoxel.spatial.smoothing import refine
from covoxel.training.joint.alignment import held, logits_of, moved_of, surprise
from covoxel.training.joint.batch import Images, JointPairs
from covoxel.training.joint.complementary_recipe import ComplementarySettings
from covoxel.training.joint.material import Given
from covoxel.training.joint.objective import (
    RegistrationObjective,
    SegmentationObjective,
    coordinates_of,
    foreground_of,
    frozen,
    is_true,
)
from covoxel.training.joint.recipe import JointRecipe
from covoxel.training.registration.answer import RegisteredLike
from covoxel.training.registration.objective import Network, full_precision, with_background
from covoxel.training.registration.pairs import sample_all
from covoxel.training.registration.terms import Weighted

UNSTABLE = frozenset({"adversarial", "region"})
"""Parts of the registration network's loss that depend on networks in training: they cannot say which step is best."""


def partway(pairs: JointPairs, settings: ComplementarySettings | None, source: torch.Generator) -> JointPairs:
    """The pairs with an `α` drawn for each, if the settings say so; `source` is on the CPU."""
    if settings is None or settings.sampling is None:
        return pairs
    least, most = settings.sampling
    alpha = least + (most - least) * torch.rand(len(pairs), generator=source)
    return replace(pairs, alpha=alpha.to(pairs.fixed.image.device))


class ComplementarySegmentation(SegmentationObjective):
    r"""Loss of the segmentation network: the same, and more of pairs whose moving image alone is labelled.

    - The labels that teach, and their image, are moved by :math:`\alpha u`, if `α` was drawn.
    - "confidence": :math:`\lambda \operatorname{mean}_x D(I_m \circ \Phi, I_f) \, L(F_S(I_f), S_m \circ \Phi)`, with
      `D` the probability of being aligned. Where that is little everywhere, so is the loss.

    Parameters
    ----------
    recipe
        Of all networks, with `complementary` settings.

    Attributes
    ----------
    discriminator
        From moved and fixed image to logits; set before the first call with pairs, if the recipe has one.

    References
    ----------
    He et al., Deep complementary joint model for complex scene registration and few-shot segmentation on medical
    images, ECCV 2020.
    """

    parts = (*SegmentationObjective.parts, "confidence")
    discriminator: nn.Module

    def __init__(self, recipe: JointRecipe) -> None:
        super().__init__(recipe)
        assert recipe.complementary is not None
        self.settings = recipe.complementary
        self._confidence = Weighted.of(self.settings.confidence, LABEL_LOSSES, recipe.name)

    def _taught(self, pairs: JointPairs, half: Sequence[int], displacement: Tensor | None) -> Images:
        if displacement is None or pairs.alpha is None:
            return pairs.moving
        moves = [number for number, row in enumerate(half) if pairs.moving.given[row] is Given.TRUE]
        rows = [half[number] for number in moves]
        if not rows:
            return pairs.moving
        alpha = pairs.alpha[rows].view(-1, *[1] * (displacement.ndim - 1))
        return _replaced(pairs.moving, rows, coordinates_of(alpha * displacement[moves]))

    def _compared(
        self, pairs: JointPairs, fixed: Tensor, labels: Tensor, moved: Tensor, mask: Tensor
    ) -> dict[str, Tensor]:
        parts = super()._compared(pairs, fixed, labels, moved, mask)
        if self.settings.confidence_weight:
            trust = self.alignment(moved, pairs.fixed.image)
            with full_precision(fixed):
                wrong = self._confidence(with_background(fixed), with_background(labels), mask=mask * trust)
                loss = masked_mean(trust, mask) * wrong * is_true(pairs.moving).flatten()
            parts["confidence"] = self.settings.confidence_weight * self._confidence.weight * loss
        return parts

    @torch.no_grad()
    def alignment(self, moved: Tensor, fixed: Tensor) -> Tensor:
        """Probability of being aligned at each voxel, `(batch, 1, *shape)`, interpolated between cells."""
        logits, factor = logits_of(frozen(self.discriminator, fixed), moved, fixed)
        with full_precision(fixed):
            return refine(logits, [factor] * (fixed.ndim - 2), fixed.shape[2:]).sigmoid()


def _replaced(images: Images, rows: Sequence[int], coordinates_vox: Tensor) -> Images:
    """The images, those at `rows` as they are seen at coordinates; what is beyond the border is out of the mask."""
    some = images.at(rows)
    with full_precision(some.image):
        seen = sample_all(some.image, some.mask, torch.cat([some.labels, some.weight], 1), coordinates_vox)
    image, mask, labels, weight = (part.clone() for part in (images.image, images.mask, images.labels, images.weight))
    image[rows], mask[rows] = seen[0], seen[1]
    labels[rows], weight[rows] = seen[2][:, :-1], seen[2][:, -1:]
    return replace(images, image=image, mask=mask, labels=labels, weight=weight)


class ComplementaryRegistration(RegistrationObjective):
    r"""Loss of the registration network: the same, and two parts more.

    - "adversarial": :math:`-\lambda \operatorname{mean} \log D(I_m \circ \Phi, I_f)`.
    - "region": :math:`\lambda \operatorname{mean}_x \sum_k (F_S(I_m \circ \Phi)_k - F_S(I_f)_k)^2`, labels summed,
      background too.

    Parameters
    ----------
    recipe
        Of all networks, with `complementary` settings.
    spacing_mm
        Of the frame.

    Attributes
    ----------
    discriminator
        From moved and fixed image to logits; set before the first call, if the recipe has one.

    References
    ----------
    He et al., Deep complementary joint model for complex scene registration and few-shot segmentation on medical
    images, ECCV 2020.
    """

    discriminator: nn.Module

    def __init__(self, recipe: JointRecipe, spacing_mm: Sequence[float]) -> None:
        super().__init__(recipe, spacing_mm)
        assert recipe.complementary is not None
        self.settings = recipe.complementary

    def __call__(self, network: Network, pairs: JointPairs) -> dict[str, Tensor]:
        """Weighted parts of the loss of each pair; see `RegistrationObjective`."""
        heard = _Overheard(network)
        parts = super().__call__(heard, pairs)
        displacement = heard.displacement_vox[: len(pairs)]
        moved, mask = moved_of(pairs, displacement)
        if self.settings.adversarial_weight:
            with held(self.discriminator, moved) as discriminator:
                logits, factor = logits_of(discriminator, moved, pairs.fixed.image)
            loss = surprise(logits, factor, mask, aligned=True)
            parts["adversarial"] = self.settings.adversarial_weight * loss
        if self.settings.region_weight:
            parts["region"] = self.settings.region_weight * self._region(pairs, moved, mask)
        return parts

    def _region(self, pairs: JointPairs, moved: Tensor, mask: Tensor) -> Tensor:
        labels = pairs.fixed.labels.shape[1] + 1
        with held(self.segmenter, moved) as segmenter:
            of_moved = foreground_of(segmenter, moved, labels)
            with torch.no_grad():
                of_fixed = foreground_of(segmenter, pairs.fixed.image, labels)
        with full_precision(moved):
            difference = LABEL_LOSSES["squared_error"]
            return difference(with_background(of_moved), with_background(of_fixed), mask=mask)


class _Overheard:
    """A registration network, and what it said first."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._said: RegisteredLike | None = None

    def __call__(self, fixed: Tensor, moving: Tensor) -> RegisteredLike:
        said = self.network(fixed, moving)
        self._said = self._said or said
        return said

    @property
    def displacement_vox(self) -> Tensor:
        """Of the pairs in their order; of both directions, where both were asked, the first."""
        assert self._said is not None
        return self._said.displacement_vox.float()
