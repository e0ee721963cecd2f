"""A cohort predicted case by case: the next one is read while one is computed, and what is done is not done again."""

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from covoxel.external.nnunet.errors import NnunetError
from covoxel.external.nnunet.predict import Predictor
from covoxel.io import ImageError, read_image, sha256_image, sidecar_path, write_image, write_labels, write_sidecar
from covoxel.segmentation import Segmented
from covoxel.spatial import Image

_STOPS_NOTHING = (NnunetError, ImageError, MemoryError, OSError)


@dataclass(frozen=True)
class PredictionCase:
    """A case whose images are still files: one a channel."""

    id: str
    images: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class Predicted:
    """What came of a case: what was said of it, or why nothing was.

    Parameters
    ----------
    id
        Of the case.
    segmented
        Probabilities on the image's own grid; None if it failed, or was there already.
    problem
        One sentence if it failed.
    seconds
        Of prediction.
    """

    id: str
    segmented: Segmented | None
    problem: str | None = None
    seconds: float = 0.0


def stream(predictor: Predictor, cases: Iterable[PredictionCase]) -> Iterator[Predicted]:
    """Predict case by case; one that fails does not stop the others."""
    with ThreadPoolExecutor(1) as reader:
        ahead: tuple[PredictionCase, Future[list[Image]]] | None = None
        for case in cases:
            coming = case, reader.submit(_read, case.images)
            if ahead is not None:
                yield _predicted(predictor, *ahead)
            ahead = coming
        if ahead is not None:
            yield _predicted(predictor, *ahead)


def predict_files(predictor: Predictor, cases: Sequence[PredictionCase], folder: Path) -> Iterator[Predicted]:
    """Predict into `CASE.nii.gz` and `CASE_confidence.nii.gz`; what is there, by its sidecar, is not made again.

    Killed at any instant, a second call goes on with the first case that is not there. The sidecar is written last.
    """
    folder, left = Path(folder), []
    for case in cases:
        if _is_there(folder, case, _marks(predictor, case)):
            yield Predicted(case.id, None)
        else:
            left.append(case)
    by_id = {case.id: case for case in left}
    for found in stream(predictor, left):
        if found.segmented is not None:
            _write(predictor, folder, by_id[found.id], found)
        yield found


def _read(paths: Sequence[Path]) -> list[Image]:
    return [read_image(path) for path in paths]


def _predicted(predictor: Predictor, case: PredictionCase, images: Future[list[Image]]) -> Predicted:
    began = monotonic()
    try:
        return Predicted(case.id, predictor.predict(images.result()), seconds=monotonic() - began)
    except _STOPS_NOTHING as error:
        return Predicted(case.id, None, f"{case.id} was not predicted: {error}", monotonic() - began)


def _marks(predictor: Predictor, case: PredictionCase) -> dict[str, str]:
    """SHA-256 of what decides the result, by name; a file that cannot be read has none."""
    hashes = {f"image {place}": sha256_image(path) for place, path in enumerate(case.images) if path.is_file()}
    how = f"{predictor.precision} {predictor.mirroring} {predictor.step} {predictor.device.type}"
    return {**hashes, "model": predictor.model.fingerprint, "how": how}


def _is_there(folder: Path, case: PredictionCase, marks: dict[str, str]) -> bool:
    label, confidence = _paths(folder, case)
    try:
        found = json.loads(sidecar_path(label).read_text(encoding="utf-8"))
        return found["inputs"] == marks and label.is_file() and confidence.is_file()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _write(predictor: Predictor, folder: Path, case: PredictionCase, found: Predicted) -> None:
    assert found.segmented is not None
    label, confidence = _paths(folder, case)
    sidecar_path(label).unlink(missing_ok=True)
    said = found.segmented
    write_labels(label, said.image)
    write_image(confidence, Image(said.probabilities.amax(0), said.grid))
    settings = {"precision": predictor.precision, "mirroring": predictor.mirroring, "step": predictor.step}
    write_sidecar(label, _marks(predictor, case), settings, found.seconds, str(predictor.device))


def _paths(folder: Path, case: PredictionCase) -> tuple[Path, Path]:
    return folder / f"{case.id}.nii.gz", folder / f"{case.id}_confidence.nii.gz"
