"""Engine learned+svf: what a network says of a pair, then a few steps of svf from there."""

from functools import partial
from typing import Literal

from torch import Tensor

from covoxel.losses.base import LABEL_LOSSES, MovedLoss
from covoxel.registration.base import ENGINES, MovingBatch
from covoxel.registration.descent import Regulariser, Schedule, Term, deform
from covoxel.registration.learned import learned
from covoxel.registration.model import Alignment, PairModel
from covoxel.spatial import Image, Transform
from covoxel.spatial.smoothing import gaussian

Drive = Literal["intensities", "mind", "labels"]


@ENGINES.register("learned+svf")
def learned_svf(
    fixed: Image,
    moving: MovingBatch,
    *,
    model: PairModel,
    alignment: Alignment | None = None,
    drive: Drive = "intensities",
    similarity: str = "lncc",
    radius: int = 2,
    fixed_labels: Tensor | None = None,
    label_loss: str = "squared_error",
    label_weight: float = 1.0,
    label_sigma_mm: float = 0.7,
    regulariser: Regulariser = "diffusion",
    iterations: tuple[int, ...] = (20, 12),
    step_vox: float = 0.5,
    momentum: float = 0.5,
    update_sigma_vox: tuple[float, ...] = (2.0, 1.0),
    velocity_sigma_vox: tuple[float, ...] = (1.0, 0.5),
) -> list[Transform]:
    r"""Register by a network and refine each pair by a diffeomorphism: the map is :math:`A \circ \Phi \circ \exp(v)`.

    A is the alignment, Phi what the network says, v a velocity that starts at zero and descends as that of `svf`, on
    the finest levels alone. The parts are composed before anything is sampled, so images are interpolated once. The
    refinement does not fold; the whole folds where the network does.

    Parameters
    ----------
    fixed, moving
        Intensities of about 0 to 1; with `drive` "labels", `moving.labels` too.
    model, alignment
        As for `learned`.
    drive
        What the refinement compares: "intensities" by `similarity`, descriptors of their surroundings ("mind", for
        images of different modalities), or "labels": intensities and probabilities of labels together.
    similarity, radius
        A name of `covoxel.losses.SIMILARITIES` and the half-width of its window, cells of the level.
    fixed_labels
        `(label, *fixed.grid.shape)` probabilities in the order of `moving.labels`, label 0 background. Labels that
        drive a registration cannot score it.
    label_loss, label_weight
        A name of `covoxel.losses.LABEL_LOSSES` and its weight beside the similarity, which has 1. The heavier, the
        more all warps resemble the driving labels: the Dice of one atlas rises and that of all fused falls.
    label_sigma_mm
        Smoothing of all probabilities, so that labels attract each other across a gap.
    regulariser, iterations, step_vox, momentum, update_sigma_vox, velocity_sigma_vox
        As for `svf`. The last level has the full resolution.

    Returns
    -------
    list of Transform
        With a displacement on the fixed grid.

    Raises
    ------
    ValueError, PairError
        As `learned`; and if `drive` is "labels" without labels.

    References
    ----------
    Siebert, Hansen and Heinrich, Learn2Reg 2021/22: instance optimisation (Adam on the field) after a network.
    Heinrich and Hansen, VoxelMorph++: going beyond the cranial vault with keypoint supervision and multi-channel
    instance optimisation, WBIR 2022: optimisation on labels and MIND.
    """
    terms = [Term.of_intensities(fixed, moving, "mind" if drive == "mind" else similarity, radius)]
    if drive == "labels":
        terms.append(_label_term(fixed_labels, fixed, moving, label_loss, label_weight, label_sigma_mm))
    schedule = Schedule(iterations, regulariser, step_vox, momentum, update_sigma_vox, velocity_sigma_vox)
    start = learned(fixed, moving, model=model, alignment=alignment)
    return deform(start, terms, schedule)


def _label_term(
    fixed_labels: Tensor | None, fixed: Image, moving: MovingBatch, loss: str, weight: float, sigma_mm: float
) -> Term:
    if fixed_labels is None or moving.labels is None:
        raise ValueError("drive = 'labels' needs labels of the fixed and of all moving images")
    on_fixed = gaussian(fixed_labels[None].float(), [sigma_mm / float(s) for s in fixed.grid.spacing_mm])
    each = [
        gaussian(labels[None].float(), [sigma_mm / float(s) for s in grid.spacing_mm])
        for labels, grid in zip(moving.labels, moving.grids, strict=True)
    ]
    return Term(on_fixed, moving.with_data(each), partial(_compared, loss), weight)


def _compared(name: str, fixed: Tensor, mask: Tensor) -> MovedLoss:
    """Label loss of moved probabilities against those of the fixed image."""
    truth = fixed.expand(len(mask), *fixed.shape[1:])
    return lambda moved: LABEL_LOSSES[name](moved, truth, mask=mask)
