"""Objectives of joint training: what each network learns from the other, by the labels that there are of a pair."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from covoxel.losses.base import LABEL_LOSSES
from covoxel.spatial import voxel_coordinates
from covoxel.training.joint.batch import Images, JointPairs
from covoxel.training.joint.material import Given
from covoxel.training.joint.recipe import JointRecipe
from covoxel.training.registration.objective import Network, Objective, full_precision, with_background
from covoxel.training.registration.pairs import Pairs, sample_all
from covoxel.training.registration.terms import Terms, Weighted


def foreground_of(network: nn.Module, image: Tensor, labels: int) -> Tensor:
    """Probabilities `(batch, label - 1, *shape)` float32 of all labels but background, of logits.

    Raises
    ------
    ValueError
        If the network does not say logits of `labels` labels on the grid of `image`, `(batch, 1, *shape)`.
    """
    logits = network(image)
    wanted = (image.shape[0], labels, *image.shape[2:])
    if tuple(logits.shape) != wanted:
        raise ValueError(f"the segmentation network must say logits of {wanted}, got {tuple(logits.shape)}")
    with full_precision(image):
        probabilities: Tensor = logits.float().softmax(1)
    return probabilities[:, 1:]


def frozen(network: nn.Module, like: Tensor) -> nn.Module:
    """The network as it answers out of training, where `like` is; to be asked without gradient."""
    return network.to(like.device).eval()


class RegistrationObjective:
    r"""Loss of the registration network: that of its recipe, with labels on every pair.

    A label that is not known is what the frozen segmentation network says, so that of :math:`L_a`

    - both labelled: :math:`L_a(S_m \circ \Phi, S_f)`;
    - fixed unlabelled: :math:`L_a(S_m \circ \Phi, F_S(I_f))`;
    - moving unlabelled: :math:`L_a(F_S(I_m) \circ \Phi, S_f)`;
    - none labelled: :math:`L_a(F_S(I_m) \circ \Phi, F_S(I_f))`, or nothing, as the recipe says.

    Structures that a true label does not tell count as background on both sides of its pairs.

    Parameters
    ----------
    recipe
        Of both networks.
    spacing_mm
        Of the frame.

    Attributes
    ----------
    segmenter
        The segmentation network; set before the first call.

    References
    ----------
    Xu and Niethammer, DeepAtlas: joint semi-supervised learning of image registration and segmentation, MICCAI 2019.
    """

    segmenter: nn.Module

    def __init__(self, recipe: JointRecipe, spacing_mm: Sequence[float]) -> None:
        self.recipe = recipe
        self._objective = Objective(recipe.registration, Terms(recipe.registration, spacing_mm))

    def __call__(self, network: Network, pairs: JointPairs) -> dict[str, Tensor]:
        """Weighted parts of the loss of each pair, as of `covoxel.training.registration.objective.Objective`.

        Raises
        ------
        ValueError
            If a pair with a true label follows one without, where these have no labels to compare.
        """
        return self._objective(network, self._filled(pairs))

    def compared(self, true: int) -> bool:
        """Whether labels are compared of a pair with so many true ones."""
        return self.recipe.registration.labels.weight > 0 and (self.recipe.predicted_pairs or true > 0)

    def _filled(self, pairs: JointPairs) -> Pairs:
        """The pairs with labels on both sides."""
        compared = [self.compared(true) for true in pairs.true]
        count = sum(compared)
        if not all(compared[:count]):
            raise ValueError(f"pairs with true labels must come first, got {pairs.true}")
        some = pairs.rows(slice(count))
        known = some.fixed.known * some.moving.known
        fixed, moving = self._labels(some)
        one, other = pairs.fixed, pairs.moving
        return Pairs(one.image, other.image, one.mask, other.mask, fixed * known, moving * known)

    def _labels(self, pairs: JointPairs) -> tuple[Tensor, Tensor]:
        sides = pairs.fixed, pairs.moving
        unknown = [[row for row, given in enumerate(side.given) if given is not Given.TRUE] for side in sides]
        labels = [side.labels.clone() for side in sides]
        images = torch.cat([side.image[rows] for side, rows in zip(sides, unknown, strict=True)])
        if len(images):
            with torch.no_grad():
                said = foreground_of(frozen(self.segmenter, images), images, labels[0].shape[1] + 1)
            for mine, rows, part in zip(
                labels, unknown, torch.split(said, [len(rows) for rows in unknown]), strict=True
            ):
                mine[rows] = part
        return labels[0], labels[1]


class SegmentationObjective:
    r"""Loss of the segmentation network, `F_S`, with the registration network, `Φ`, frozen.

    Of pairs, with labels `S`,

    - fixed unlabelled: :math:`\lambda_a L_a(S_m \circ \Phi, F_S(I_f)) + \lambda_{sp} L_{sp}(F_S(I_m), S_m)`;
    - moving unlabelled: :math:`\lambda_a L_a(F_S(I_m) \circ \Phi, S_f) + \lambda_{sp} L_{sp}(F_S(I_f), S_f)`;
    - both labelled: :math:`\lambda_{sp} L_{sp}(F_S(I_m), S_m)`. The first term of the reference, `L_a` of both
      labels, does not depend on the network and is left out;
    - none labelled: 0.

    Fused labels of an unlabelled image add :math:`\lambda_f L_{sp}`, weighted by their confidence. Of single images
    the supervised terms alone. Structures that a true label does not tell count as background, of the segmentation
    too, wherever it is compared with that label.

    Parameters
    ----------
    recipe
        Of both networks.

    Attributes
    ----------
    registrar
        The registration network; set before the first call with pairs.

    References
    ----------
    Xu and Niethammer, DeepAtlas: joint semi-supervised learning of image registration and segmentation, MICCAI 2019.
    """

    parts: tuple[str, ...] = ("supervised", "fused", "anatomy")
    registrar: nn.Module

    def __init__(self, recipe: JointRecipe) -> None:
        self.recipe = recipe
        how = recipe.segmentation
        self._supervised = [Weighted.of(term, LABEL_LOSSES, recipe.name) for term in how.supervised if term.weight]
        self._anatomy = Weighted.of(how.anatomy, LABEL_LOSSES, recipe.name)
        self._weight = {Given.TRUE: recipe.supervised_weight, Given.FUSED: recipe.fused_weight}

    def __call__(self, network: nn.Module, batch: JointPairs | Images) -> dict[str, Tensor]:
        """Weighted parts of the loss of each pair, `parts`, or of each image: "supervised" and "fused"."""
        if isinstance(batch, Images):
            return self._of_images(network, batch)
        return self._of_pairs(network, batch)

    def _of_images(self, network: nn.Module, images: Images) -> dict[str, Tensor]:
        parts = self._parts(network, images, ("supervised", "fused"))
        rows = [row for row, given in enumerate(images.given) if self._weight.get(given)]
        if rows:
            some = images.at(rows)
            said = foreground_of(network, some.image, images.labels.shape[1] + 1)
            self._supervise(parts, rows, said, some)
        return parts

    def _of_pairs(self, network: nn.Module, pairs: JointPairs) -> dict[str, Tensor]:
        parts = self._parts(network, pairs.fixed, self.parts)
        half = [row for row, true in enumerate(pairs.true) if true == 1]
        fixed = [r for r, true in enumerate(pairs.true) if true == 1 or self._teaches_fused(pairs.fixed.given[r])]
        moving = [r for r, true in enumerate(pairs.true) if true or self._teaches_fused(pairs.moving.given[r])]
        if not fixed and not moving:
            return parts
        some = pairs.at(half)
        displacement, nothing = self._displacement(some) if half and self.recipe.carries else (None, 0)
        of_moved = self._taught(pairs, half, displacement)
        images = torch.cat([pairs.fixed.image[fixed], of_moved.image[moving]])
        both = foreground_of(network, images, pairs.fixed.labels.shape[1] + 1)
        of_fixed, of_moving = torch.split(both, [len(fixed), len(moving)])
        self._supervise(parts, fixed, of_fixed, pairs.fixed.at(fixed))
        self._supervise(parts, moving, of_moving, of_moved.at(moving))
        if displacement is not None:
            seen = [of_fixed[[fixed.index(row) for row in half]], of_moving[[moving.index(row) for row in half]]]
            for name, loss in self._carried(some, displacement, *seen).items():
                parts[name] = parts[name].index_add(0, _index(half, loss), loss + nothing)
        return parts

    def _teaches_fused(self, given: Given) -> bool:
        return given is Given.FUSED and self.recipe.fused_weight > 0

    @staticmethod
    def _parts(network: nn.Module, images: Images, names: Sequence[str]) -> dict[str, Tensor]:
        """Zeros, with a gradient of zero: of a batch that teaches nothing there must be one, too."""
        nothing = torch.stack([0 * parameter.sum() for parameter in network.parameters()]).sum().float()
        return {name: images.image.new_zeros(len(images)) + nothing for name in names}

    def _supervise(self, parts: dict[str, Tensor], rows: Sequence[int], said: Tensor, images: Images) -> None:
        """Add the agreement of `said` with the labels of its own images, which are at `rows` of the batch."""
        with full_precision(said):
            for name, given in (("supervised", Given.TRUE), ("fused", Given.FUSED)):
                mine = [place for place, kind in enumerate(images.given) if kind is given]
                if not mine or not self._weight[given]:
                    continue
                some, foreground = images.at(mine), said[mine]
                probabilities, truth = with_background(foreground * some.known), with_background(some.labels)
                mask = some.mask * some.weight
                losses = [term.weight * term(probabilities, truth, mask=mask) for term in self._supervised]
                loss = self._weight[given] * torch.stack(losses).sum(0)
                parts[name] = parts[name].index_add(0, _index([rows[place] for place in mine], loss), loss)

    def _displacement(self, pairs: JointPairs) -> tuple[Tensor, Tensor]:
        """What the registration network says, finite, and `(batch,)` noughts; not a number where it was not."""
        with torch.no_grad():
            said = frozen(self.registrar, pairs.fixed.image)(pairs.fixed.image, pairs.moving.image)
        displacement = said.displacement_vox.float()
        finite = displacement.flatten(1).isfinite().all(1)
        return displacement.nan_to_num(0, 0, 0), torch.where(finite, 0.0, torch.nan).to(displacement)

    def _taught(self, pairs: JointPairs, half: Sequence[int], displacement: Tensor | None) -> Images:
        """The moving images as they teach; `displacement` is of the pairs at `half`, those with one true label."""
        return pairs.moving

    def _carried(
        self, pairs: JointPairs, displacement: Tensor, of_fixed: Tensor, of_moving: Tensor
    ) -> dict[str, Tensor]:
        """Weighted parts, `(batch,)`, of pairs with one true label each, and of what is said of both sides."""
        with full_precision(of_fixed):
            known = pairs.fixed.known * pairs.moving.known
            moving = _true_or(pairs.moving, of_moving) * known
            moved, seen, labels = sample_all(
                pairs.moving.image, pairs.moving.mask, moving, coordinates_of(displacement)
            )
            mask = pairs.fixed.mask * seen
        return self._compared(pairs, _true_or(pairs.fixed, of_fixed) * known, labels, moved, mask)

    def _compared(
        self, pairs: JointPairs, fixed: Tensor, labels: Tensor, moved: Tensor, mask: Tensor
    ) -> dict[str, Tensor]:
        """Weighted parts: `L_a` of the fixed foreground and the moved `labels`; `moved` is the image itself."""
        with full_precision(fixed):
            true = is_true(pairs.moving)
            probabilities, truth = torch.where(true, fixed, labels), torch.where(true, labels, fixed)
            loss: Tensor = self._anatomy(with_background(probabilities), with_background(truth), mask=mask)
            return {"anatomy": self.recipe.anatomy_weight * self._anatomy.weight * loss}


def coordinates_of(displacement_vox: Tensor) -> Tensor:
    """Where each voxel comes from, `(batch, n, *shape)`."""
    return voxel_coordinates(tuple(displacement_vox.shape[2:]), displacement_vox) + displacement_vox


def _true_or(images: Images, said: Tensor) -> Tensor:
    """True labels where there are, elsewhere `said`."""
    return torch.where(is_true(images), images.labels, said)


def is_true(images: Images) -> Tensor:
    """Which have true labels, `(batch, 1, 1, …)`."""
    rows = torch.tensor([given is Given.TRUE for given in images.given], device=images.image.device)
    return rows.view(-1, *[1] * (images.image.ndim - 1))


def _index(rows: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(rows, dtype=torch.int64, device=like.device)
