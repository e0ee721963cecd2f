"""What is known of one subject's visits: the template between them, and where each lies on it."""

from collections.abc import Mapping
from dataclasses import dataclass

from covoxel.spatial import Image, Transform


@dataclass(frozen=True)
class SeriesSettings:
    """How the visits of a subject are brought together.

    Parameters
    ----------
    similarity
        A name of `covoxel.losses.SIMILARITIES`, by which the pose of each visit is found.
    levels
        Coarsest level of the displacement as a power of two of the voxels: 2 starts with cells of four voxels, which
        catches shifts of some eight voxels; 0 expects no shift above two.
    coarse_rounds, rounds
        Steps on each coarser level, and on the finest.
    update_rounds
        Steps on the finest level, of all visits, after a visit was added to a template there was. Each takes earlier
        visits further than a series from scratch does: with none, volumes differ least from that.
    strain
        What is usual within a subject; see `small_displacement`.
    bias_mm
        Width of the window in which the gain of a visit against the template is estimated.
    """

    similarity: str = "lncc"
    levels: int = 2
    coarse_rounds: int = 2
    rounds: int = 5
    update_rounds: int = 0
    strain: float = 0.1
    bias_mm: float = 15.0


@dataclass(frozen=True, eq=False)
class Series:
    """A subject's template and its visits.

    Parameters
    ----------
    template
        Mean intensities of the visits in the space half-way between them.
    transforms
        From points of the template to points of each visit, by id; the mean of their displacements is zero, and so is
        that of the logarithms of their matrices when all visits came at once.
    first_from_template
        From points of the template to points of the template there was before any visit was added; None for a template
        that is the first.
    """

    template: Image
    transforms: Mapping[str, Transform]
    first_from_template: Transform | None = None
