"""A scan: the image of one case as it came, and as it was preprocessed."""

from dataclasses import dataclass

from tasks.job import Artifact
from tasks.study import Study


@dataclass(frozen=True)
class Scan:
    """Both images of a case.

    Parameters
    ----------
    own
        NIfTI file or DICOM folder, as it came.
    prepared
        Preprocessed, in the same world.
    """

    own: Artifact
    prepared: Artifact

    def hashes(self) -> dict[str, str]:
        """SHA-256 of either, by name."""
        return {"own": self.own.sha256, "image": self.prepared.sha256}


def scan_of(study: Study, case: str) -> Scan:
    """Images of a sound case of a run that has checked and preprocessed it."""
    own = Artifact(study.cohort.case(case).image, study.records["check"][case].inputs["image"])
    return Scan(own, study.artifact("preprocess", case, study.layout.preprocessed(case)))
