"""A data set as nnU-Net has it: cases, label values, channels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class DatasetCase:
    """One case.

    Parameters
    ----------
    id
        Its name: letters, digits, `_`, `-` and `.`.
    images
        NIfTI files, one a channel, all on one grid.
    label
        Label map on that grid; None of a case that is only to be predicted.
    confidence
        Of a fused or predicted label map, 0 to 1, on that grid; None of a hand-labelled case.
    weight
        Of the case in the loss, beside others; its data parameter or predicted quality, for example.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None
    confidence: Path | None = None
    weight: float = 1.0

    @property
    def is_fused(self) -> bool:
        """Whether its labels are not from a hand."""
        return self.confidence is not None


@dataclass(frozen=True)
class Dataset:
    """A data set in nnU-Net's folders.

    Parameters
    ----------
    folder
        `DatasetNNN_Name`.
    cases
        Those with labels, then those without, by id; their paths lie in `folder`.
    values
        The study's label value of each of nnU-Net's labels 0, 1, 2 …; 0 first, ascending.
    names
        Name of each label by the study's value.
    channels
        Name of each channel. `CT` makes nnU-Net normalise by the data set's intensities, any other name by the
        image's own.
    ignore
        nnU-Net's value of voxels that no loss sees, if the data set has one.
    canonical
        Whether all images have axes nearest to RAS, so that others are turned before they are predicted.
    failed
        Sentence of each case that is not in it because it cannot be used, by id.
    """

    folder: Path
    cases: tuple[DatasetCase, ...]
    values: tuple[int, ...]
    names: Mapping[int, str] = field(default_factory=dict)
    channels: tuple[str, ...] = ("image",)
    ignore: int | None = None
    canonical: bool = True
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def training(self) -> tuple[DatasetCase, ...]:
        """Cases with labels."""
        return tuple(case for case in self.cases if case.label is not None)
