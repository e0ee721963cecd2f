"""True labels in a folder that only scoring may read."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from covoxel.io.formats import READ_SUFFIXES, image_stem, image_suffix
from data_catalog.listing import Listing, is_folder, list_folder
from data_catalog.schema import CohortError, unsafe_id

_ENDINGS = ("", "_dseg")


@dataclass(frozen=True)
class EvaluationLabels:
    """True labels in a folder that only scoring may read: the one way to them.

    Parameters
    ----------
    folder
        Holds `ID.nii.gz` or `ID_dseg.nii.gz`, in any format that is read, for each case with a true label. Of several
        the first counts in this order: without `_dseg`, then by the order of `covoxel.io.formats.READ_SUFFIXES`.

    Raises
    ------
    CohortError
        If there is no such folder, or it cannot be read.
    """

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        if not is_folder(self.folder):
            raise CohortError(f"the folder of true labels {self.folder} does not exist")
        if self._listing.error:
            raise CohortError(f"the folder of true labels {self.folder}: {self._listing.error}")

    def path(self, case_id: str) -> Path:
        """True label map of a case.

        Raises
        ------
        CohortError
            If the folder has none for it (see `in`).
        """
        found = self._find(case_id)
        if found is None:
            raise CohortError(f"the folder of true labels {self.folder} has no {case_id}.nii.gz")
        return found

    def __contains__(self, case_id: str) -> bool:
        """Whether the folder has a true label map for the case."""
        return self._find(case_id) is not None

    def _find(self, case_id: str) -> Path | None:
        if unsafe_id(case_id):
            return None
        return next((self._files[case_id + end] for end in _ENDINGS if case_id + end in self._files), None)

    @cached_property
    def _listing(self) -> Listing:
        return list_folder(self.folder)

    @cached_property
    def _files(self) -> dict[str, Path]:
        """Files of the folder by their names without suffix."""
        by_rank = sorted(self._listing.images, key=lambda path: READ_SUFFIXES.index(image_suffix(path)), reverse=True)
        return {image_stem(path): path for path in by_rank}
