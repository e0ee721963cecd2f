"""A plain nnU-Net data set: written so that nnU-Net's own tools take it, and read again, from whoever wrote it."""

from collections.abc import Mapping, Sequence
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
    """

    folder: Path
    cases: tuple[DatasetCase, ...]
    values: tuple[int, ...]
    names: Mapping[int, str] = field(default_factory=dict)
    channels: tuple[str, ...] = ("image",)
    ignore: int | None = None

    @property
    def training(self) -> tuple[DatasetCase, ...]:
        """Cases with labels."""
        return tuple(case for case in self.cases if case.label is not None)


def write_dataset(
    folder: Path,
    cases: Sequence[DatasetCase],
    *,
    names: Mapping[int, str],
    channels: Sequence[str] = ("image",),
    ignore_below: float = 0.0,
) -> Dataset:
    """Write a raw data set of nnU-Net, in which its own tools find all they want.

    Label values are mapped onto 0, 1, 2 … in ascending order; `read_dataset` knows the way back. Confidences and
    weights are kept beside, where nnU-Net does not look.

    Parameters
    ----------
    folder
        To be made; its name must be `DatasetNNN_Name`. What is there and the same is kept.
    cases
        At least one of them with labels.
    names
        Name of each label by its value, background (0) not needed.
    channels
        As of `Dataset`.
    ignore_below
        Voxels of less confidence are written as nnU-Net's ignore label, for its own tools; training here has
        `Weighting` for that. 0 writes none.

    Raises
    ------
    NnunetError
        If no case has labels, a case has another number of channels, images or labels of a case lie on different
        grids, cases have different numbers of axes, a label map has a value without a name, a label that is named is
        in no label map, or a name is not what it should be.
    ImageError
        If a file cannot be read.
    """
    raise NotImplementedError


def read_dataset(folder: Path) -> Dataset:
    """The data set in `folder`, written by `write_dataset` or by others (NIfTI, one label a structure).

    Raises
    ------
    NnunetError
        If it has no `dataset.json` or none that is understood, is not of NIfTI files, or a case lacks a channel.
    """
    raise NotImplementedError
