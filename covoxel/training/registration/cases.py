"""What a registration network is trained on: images on one frame, each with its field of view and perhaps labels."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class TrainingCase:
    """One image on the frame that all cases share.

    Parameters
    ----------
    id
        Name of the case, unique among the cases.
    image
        `(*shape)` intensities of about 0 to 1, 2-D or 3-D; continued where the image has no data.
    mask
        `(*shape)` bool, inside the image's field of view.
    labels
        `(*shape)` of an integer type: places in the cohort's ascending list of label values, 0 is background.
    subject
        Whom the image is of; empty: somebody of whom there is no other image.

    Raises
    ------
    ValueError
        If shapes or types do not belong together, an intensity is not finite, or the mask is empty.
    """

    id: str
    image: Tensor
    mask: Tensor
    labels: Tensor | None = None
    subject: str = ""

    def __post_init__(self) -> None:
        shape = tuple(self.image.shape)
        if len(shape) not in (2, 3):
            raise ValueError(f"case {self.id}: image must be 2-D or 3-D, got {shape}")
        for name, got in (("mask", self.mask), ("labels", self.labels)):
            if got is not None and tuple(got.shape) != shape:
                raise ValueError(f"case {self.id}: {name} must have shape {shape}, got {tuple(got.shape)}")
        if self.mask.dtype != torch.bool or not self.mask.any():
            raise ValueError(f"case {self.id}: mask must be boolean and somewhere true, got {self.mask.dtype}")
        if self.labels is not None and (self.labels.is_floating_point() or self.labels.dtype == torch.bool):
            raise ValueError(f"case {self.id}: labels must be of an integer type, got {self.labels.dtype}")
        if not self.image.isfinite().all():
            raise ValueError(f"case {self.id}: every intensity must be finite")

    @property
    def person(self) -> str:
        """The subject, or a name that no other case has."""
        return f"subject {self.subject}" if self.subject else f"case {self.id}"


def check_cases(cases: Sequence[TrainingCase], values: int) -> None:
    """See that the cases can be trained on together.

    Parameters
    ----------
    cases
        At least one.
    values
        Number of labels, background included; 0 where labels are not read.

    Raises
    ------
    ValueError
        If there is none, two have one name, they differ in shape, or a label is not among `values`.
    """
    if not cases:
        raise ValueError("training needs at least one case, got none")
    names: set[str] = set()
    shape = tuple(cases[0].image.shape)
    for case in cases:
        if case.id in names:
            raise ValueError(f"case ids must be unique, {case.id} occurs twice")
        names.add(case.id)
        if tuple(case.image.shape) != shape:
            raise ValueError(
                f"all cases must share one frame: case {case.id} is {tuple(case.image.shape)}, {cases[0].id} is {shape}"
            )
        if values and case.labels is not None:
            least, most = int(case.labels.amin()), int(case.labels.amax())
            if least < 0 or most >= values:
                raise ValueError(f"case {case.id}: labels must be places 0 to {values - 1}, found {least} to {most}")


def fingerprint(cases: Sequence[TrainingCase]) -> str:
    """What tells these cases from others: a checksum over names and voxels."""
    total = 0
    for case in cases:
        total = zlib.crc32(f"{case.id}\t{case.subject}\t{tuple(case.image.shape)}\n".encode(), total)
        for part in (case.image, case.mask, case.labels):
            if part is not None:
                total = zlib.crc32(part.contiguous().cpu().numpy().tobytes(), total)
    return f"{len(cases)} cases, {total:08x}"
