"""What corrective learning is given: labelled images, fused by the others; and the region that it looks at."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Box = tuple[slice, ...]
"""A part of an image."""

TRACE = 0.1
"""Probability of all structures together from which on a voxel counts as theirs."""


@dataclass(frozen=True, eq=False)
class CorrectionCase:
    """A labelled image and what fusion says of it without its own labels.

    Parameters
    ----------
    id
        Name of the case, unique among the cases.
    image
        `(*shape)` intensities of about 0 to 1, 2-D or 3-D.
    probabilities
        `(label, *shape)` floating point, of fusion, background first; may lie on the disk (`numpy.memmap`): only the
        part that is due is read.
    labels
        `(*shape)` of an integer type: places in the list of labels, 0 is background; the truth.
    subject
        Whom the image is of; empty: somebody of whom there is no other image.

    Raises
    ------
    ValueError
        If shapes or types do not belong together, an intensity is not finite, or a label is not in the list.
    """

    id: str
    image: Tensor
    probabilities: Tensor
    labels: Tensor
    subject: str = ""

    def __post_init__(self) -> None:
        shape, values = tuple(self.image.shape), self.probabilities.shape[0]
        if len(shape) not in (2, 3):
            raise ValueError(f"case {self.id}: image must be 2-D or 3-D, got {shape}")
        if tuple(self.probabilities.shape[1:]) != shape or values < 2:
            raise ValueError(
                f"case {self.id}: probabilities must be of two labels or more on {shape}, got "
                f"{tuple(self.probabilities.shape)}"
            )
        if tuple(self.labels.shape) != shape or self.labels.is_floating_point() or self.labels.dtype == torch.bool:
            raise ValueError(
                f"case {self.id}: labels must be whole numbers on {shape}, got {self.labels.dtype} on "
                f"{tuple(self.labels.shape)}"
            )
        least, most = int(self.labels.amin()), int(self.labels.amax())
        if least < 0 or most >= values:
            raise ValueError(f"case {self.id}: labels must be places 0 to {values - 1}, found {least} to {most}")
        if not self.image.isfinite().all():
            raise ValueError(f"case {self.id}: every intensity must be finite")

    @property
    def person(self) -> str:
        """The subject, or a name that no other case has."""
        return f"subject {self.subject}" if self.subject else f"case {self.id}"


def region(probabilities: Tensor, margin_vox: int) -> Box | None:
    """Bounding box of the fused structures, and a margin within the image; None where there is no structure.

    Parameters
    ----------
    probabilities
        `(label, *shape)`, background first.
    margin_vox
        On every side.
    """
    structure = probabilities[0] < 1 - TRACE
    sides = []
    for axis, side in enumerate(structure.shape):
        others = tuple(other for other in range(structure.ndim) if other != axis)
        found = structure.sum(others).nonzero()[:, 0]
        if not len(found):
            return None
        first, last = int(found[0]), int(found[-1])
        sides.append(slice(max(0, first - margin_vox), min(side, last + 1 + margin_vox)))
    return tuple(sides)


def check_cases(cases: Sequence[CorrectionCase]) -> int:
    """See that the cases can be learnt from together; the number of their labels, background included.

    Raises
    ------
    ValueError
        If there is none, two have one name, or they differ in dimensions or number of labels.
    """
    if not cases:
        raise ValueError("corrective learning needs at least one case, got none")
    values, ndim = cases[0].probabilities.shape[0], cases[0].image.ndim
    names: set[str] = set()
    for case in cases:
        if case.id in names:
            raise ValueError(f"case ids must be unique, {case.id} occurs twice")
        names.add(case.id)
        if (case.probabilities.shape[0], case.image.ndim) != (values, ndim):
            raise ValueError(
                f"all cases must be {ndim}-D with {values} labels as {cases[0].id}, case {case.id} is "
                f"{case.image.ndim}-D with {case.probabilities.shape[0]}"
            )
    return values


def fingerprint(cases: Sequence[CorrectionCase]) -> str:
    """What tells these cases from others: a checksum over names and voxels."""
    total = 0
    for case in cases:
        total = zlib.crc32(f"{case.id}\t{tuple(case.probabilities.shape)}\n".encode(), total)
        for part in (case.image, case.labels, *case.probabilities):
            total = zlib.crc32(part.contiguous().cpu().numpy().tobytes(), total)
    return f"{len(cases)} cases, {total:08x}"
