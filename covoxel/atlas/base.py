"""What a template is made by and what is known of it: settings, iterations, result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from covoxel.atlas.placement import Placement
from covoxel.registration.objective import Freedom
from covoxel.spatial import Image


@dataclass(frozen=True)
class TemplateSettings:
    """How a template is built.

    Parameters
    ----------
    freedom
        Of the affine part: "rigid" (visits of one person), "similarity" or "affine" (different people).
    similarity
        A name of `covoxel.losses.SIMILARITIES`, by which images are compared with the template.
    affine_rounds
        Affine registrations of every image, the first onto a provisional reference, the others onto their mean.
    iterations
        Deformable registrations of every image onto the mean, at most; 0 ends with the affine mean.
    tolerance
        Iterations end when the template changes by less: root mean square of the change over its standard deviation.
    first, later
        Steps a level, coarse to fine, of the first deformable iteration, and of those after it, which go on from the
        velocity there is.
    sharpen
        Strength of the sharpening of each mean; 0 leaves it as it is.
    """

    freedom: Freedom = "affine"
    similarity: str = "lncc"
    affine_rounds: int = 2
    iterations: int = 4
    tolerance: float = 0.02
    first: tuple[int, ...] = (100, 80, 20, 12)
    later: tuple[int, ...] = (20, 8)
    sharpen: float = 0.5


@dataclass(frozen=True)
class Iteration:
    """A row of the history.

    Parameters
    ----------
    number
        0 for the affine mean.
    cases
        Number of images in the mean.
    similarity
        Mean over the cases of the correlation with the template onto which they were brought.
    displacement_mm
        Root mean square over cases and voxels of the displacement, without the affine part.
    drift_mm
        Root mean square over voxels of the mean displacement, taken out of the template's shape.
    folded_percent
        Largest share of folded voxels (non-diffeomorphic volume) of any case.
    change
        Root mean square of the change of the template over its standard deviation; NaN for the first.
    """

    number: int
    cases: int
    similarity: float
    displacement_mm: float
    drift_mm: float
    folded_percent: float
    change: float


@dataclass(frozen=True, eq=False)
class Template:
    """A template and where each image lies on it.

    Parameters
    ----------
    image
        Mean intensities, on the grid of the mid-space.
    placements
        Of each image that takes part, by id.
    history
        An entry an iteration.
    left_out
        Why an image takes no part, a sentence, by id.
    """

    image: Image
    placements: Mapping[str, Placement]
    history: Sequence[Iteration]
    left_out: Mapping[str, str] = field(default_factory=dict)
