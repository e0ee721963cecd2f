"""The route through a template: atlases come onto a case by one registration, and a short refinement of each pair."""

from collections.abc import Sequence

import torch

from covoxel.atlas.place import REGULARISED
from covoxel.atlas.placement import Placement, through
from covoxel.registration import MovingBatch
from covoxel.registration.descent import Schedule, Term, deform
from covoxel.spatial import Image, Transform

_STEP_VOX, _RADIUS = 0.5, 2


def through_template(
    case: Image,
    template_from_case: Transform,
    atlases: Sequence[Image],
    placements: Sequence[Placement],
    *,
    similarity: str = "lncc",
    refine: int = 5,
    device: torch.device | str = "cpu",
) -> list[Transform]:
    """Transforms from points of a case (fixed) to points of each atlas (moving), through a template of the atlases.

    Parameters
    ----------
    case
        Intensities of about 0 to 1.
    template_from_case
        From points of the case to points of the template: the one registration that the case costs.
    atlases, placements
        Images of the atlases, and where each lies on the template.
    similarity, refine
        Steps, on cells of two voxels, that make good what two registrations in turn have lost; 0 for none. Five
        cost a twelfth of a registration a pair.
    device
        Where the refinement is done.

    References
    ----------
    Wang and Zhang, Atlas propagation through template selection, MICCAI 2018: the error has a part of the atlases to
    the template and one of the template to the case.
    """
    composed = [through(placement.transform(), template_from_case) for placement in placements]
    if not refine:
        return composed
    batch = MovingBatch.of(atlases, device)
    terms = [Term.of_intensities(case.to(device), batch, similarity, _RADIUS)]
    with torch.no_grad():
        found = deform(composed, terms, Schedule((refine, 0), step_vox=_STEP_VOX, **REGULARISED))
    return [
        Transform(t.grid, t.moving_from_fixed, None if t.displacement_mm is None else t.displacement_mm.cpu())
        for t in found
    ]
