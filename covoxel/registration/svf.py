"""Engine svf: affine, then a stationary velocity field a pair, coarse to fine, all moving images in one batch."""

from covoxel.registration.alignment import align, coarse_affine
from covoxel.registration.base import ENGINES, MovingBatch
from covoxel.registration.descent import Regulariser, Schedule, Term, deform
from covoxel.registration.model import Alignment
from covoxel.registration.objective import Freedom
from covoxel.registration.search import searched_velocity
from covoxel.spatial import Image, Transform


@ENGINES.register("svf")
def svf(
    fixed: Image,
    moving: MovingBatch,
    *,
    alignment: Alignment = "affine",
    freedom: Freedom = "affine",
    search: bool = True,
    affine_similarity: str | None = None,
    similarity: str = "lncc",
    radius: int = 2,
    regulariser: Regulariser = "diffusion",
    iterations: tuple[int, ...] = (100, 80, 20, 12),
    step_vox: float = 0.5,
    momentum: float = 0.5,
    update_sigma_vox: tuple[float, ...] = (2.0, 2.0, 2.0, 1.0),
    velocity_sigma_vox: tuple[float, ...] = (1.0, 1.0, 1.0, 0.5),
    last_step: float = 1.0,
    reach: tuple[int, ...] = (),
) -> list[Transform]:
    r"""Register by an affine transform and a diffeomorphism :math:`\exp(v)`.

    The velocity lives on cells of two voxels. A step warps the moving images once, takes the gradient of the
    similarity at the moved images, multiplies it by the gradient of the moved images (the first-order gradient of
    log-domain demons), smooths it, scales it to at most `step_vox` and adds it to the velocity, which is then
    smoothed by the flow of the regulariser. Nothing is differentiated through the exponential.

    Parameters
    ----------
    fixed, moving
        Intensities of about 0 to 1.
    alignment
        What the deformation starts from: "affine"; or, where images nearly lie on one another, "centre" (centre on
        centre) or "none" (as their headers say), which cost nothing.
    freedom, search
        Of the affine part, as for `affine`.
    affine_similarity
        Of the affine part; by default as `similarity`.
    similarity, radius
        A name of `covoxel.losses.SIMILARITIES` and the half-width of its window, cells of the level.
    regulariser
        "diffusion" (Gaussian smoothing) or "bending" (the flow of the bending energy, which keeps long waves better;
        the default strengths are chosen for diffusion).
    iterations
        Steps a level, coarse to fine; the last level has the full resolution. Levels too coarse for the image
        are left out.
    step_vox
        Length of the largest update of a pair in a step, cells of the velocity's grid.
    momentum
        Share of the last update that is added to the next.
    update_sigma_vox, velocity_sigma_vox
        Strength of the smoothing of updates, and of the velocity after each step, cells of its grid; a value a level,
        the last for the finest: strong where far matches are sought, weak where detail is. Of too few values the
        first serves all coarser levels.
    last_step
        Share of `step_vox` that the steps of a level end with; in between they shrink evenly.
    reach
        Cells within which displacements are tried before the descent, as for `searched_velocity`; () leaves the search
        out. The descent then begins with what was found, and needs no more than the two finest levels.

    Returns
    -------
    list of Transform
        With a displacement on the fixed grid.

    Raises
    ------
    ValueError
        If `alignment` is not one of the three.

    References
    ----------
    Vercauteren et al., Symmetric log-domain diffeomorphic registration, MICCAI 2008.
    Avants et al., Symmetric diffeomorphic image registration with cross-correlation, Med Image Anal 2008.
    """
    schedule = Schedule(iterations, regulariser, step_vox, momentum, update_sigma_vox, velocity_sigma_vox, last_step)
    if alignment == "affine":
        similar = affine_similarity or similarity
        start = coarse_affine(fixed, moving, freedom=freedom, similarity=similar, search=search)
    else:
        start = align(fixed, moving, alignment)
    begin = searched_velocity(fixed, moving, start, reach) if reach else None
    return deform(start, [Term.of_intensities(fixed, moving, similarity, radius)], schedule, begin)
