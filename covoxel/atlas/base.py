"""What a template is made by and what is known of it: settings, iterations, result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from covoxel.atlas.placement import Placement
from covoxel.registration.objective import Freedom
from covoxel.spatial import Image

Contrast = Literal["one", "many"]

NMI = "nmi"


@dataclass(frozen=True)
class TemplateSettings:
    """How a template is built.

    Parameters
    ----------
    engine
        "svf", or another registration engine with displacements, such as "learned", whose affine part it is then.
    freedom
        Of the affine part: "rigid" (visits of one person), "similarity" or "affine" (different people).
    similarity
        A name of `covoxel.losses.SIMILARITIES`, by which images are compared with the template.
    contrast
        "one": all images must have one contrast. "many": they are compared by normalised mutual information, and
        their intensities turned into those of the template before they are averaged.
    affine_rounds
        Affine registrations of every image, the first onto a provisional reference, the others onto their mean.
    iterations
        Deformable registrations of every image onto the mean, at most; 0 ends with the affine mean.
    tolerance
        Iterations end when the template changes by less: root mean square of the change over its standard deviation.
    first, later
        Steps a level, coarse to fine, of the first deformable iteration, and of those after it, which go on from the
        velocity there is and have two levels at most.
    sharpen
        Strength of the sharpening of each mean; 0 leaves it as it is.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    engine: str = "svf"
    freedom: Freedom = "affine"
    similarity: str = "lncc"
    contrast: Contrast = "one"
    affine_rounds: int = 2
    iterations: int = 4
    tolerance: float = 0.02
    first: tuple[int, ...] = (60, 50, 15, 8)
    later: tuple[int, ...] = (10,)
    sharpen: float = 0.5

    def __post_init__(self) -> None:
        if self.affine_rounds < 1 or self.iterations < 0:
            raise ValueError(
                f"affine_rounds must be 1 or more and iterations 0 or more, got {self.affine_rounds}, {self.iterations}"
            )
        if len(self.later) > 2:
            raise ValueError(f"later must have two levels at most, got {len(self.later)}")

    @property
    def compared_by(self) -> str:
        """Similarity that is in force."""
        return NMI if self.contrast == "many" else self.similarity

    @property
    def steps(self) -> "tuple[Step, ...]":
        """What is done in turn: each step brings every image onto a template and makes the next one."""
        count = self.affine_rounds + self.iterations
        return tuple(Step(number, number - self.affine_rounds) for number in range(count))


@dataclass(frozen=True)
class Step:
    """A registration of every image, and the mean of them.

    Parameters
    ----------
    number
        From 0.
    iteration
        Number of the deformable iteration, from 0; below 0 the step is affine.
    """

    number: int
    iteration: int

    @property
    def is_affine(self) -> bool:
        """Whether images are brought onto one another by affine maps only."""
        return self.iteration < 0


@dataclass(frozen=True)
class Iteration:
    """A row of the history.

    Parameters
    ----------
    number
        Of the step, from 0.
    kind
        "affine" or "deform".
    cases
        Number of images in the mean.
    similarity
        Mean over the cases of the correlation with the template onto which they were brought.
    displacement_mm
        Root mean square over cases and voxels of the displacement, without the affine part.
    drift_mm
        Root mean square over voxels of the mean displacement that was taken out of the template's shape.
    ndv_percent
        Largest non-diffeomorphic volume of any case (`covoxel.metrics.digital_folding`).
    change
        Root mean square of the change of the template over its standard deviation; NaN for the first.
    """

    number: int
    kind: str
    cases: int
    similarity: float
    displacement_mm: float
    drift_mm: float
    ndv_percent: float
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
        An entry a step.
    left_out
        Why an image takes no part, a sentence, by id.
    """

    image: Image
    placements: Mapping[str, Placement]
    history: Sequence[Iteration]
    left_out: Mapping[str, str] = field(default_factory=dict)
