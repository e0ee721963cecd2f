"""A second round: fused labels give way to cross-validated predictions where the model is surer than the fusion."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from covoxel.external.nnunet.dataset import DatasetCase
from covoxel.external.nnunet.errors import NnunetError
from covoxel.external.nnunet.model import FoldModel, TrainedModel
from covoxel.external.nnunet.planning import Plan
from covoxel.external.nnunet.predict import Predictor
from covoxel.external.nnunet.profiles import Precision
from covoxel.io import read_image, read_labels, sha256_file, sha256_json, write_image, write_json, write_labels
from covoxel.segmentation import Segmented
from covoxel.spatial import Image


@dataclass(frozen=True, eq=False)
class Corrected:
    """A label map of which a part was replaced.

    Parameters
    ----------
    label_map, confidence
        On the grid of the fused label map; each voxel has the confidence of whose label it has.
    replaced
        Share of the voxels with another label than before, of those that are not background in both.
    """

    label_map: Image
    confidence: Image
    replaced: float


def surer(label_map: Image, confidence: Image, predicted: Segmented, *, margin: float = 0.0) -> Corrected:
    """Labels of the model where its probability exceeds the confidence of the fusion by more than `margin`.

    Raises
    ------
    NnunetError
        If the grids differ or `margin` is not from 0 to 1.
    """
    if not 0 <= margin <= 1:
        raise NnunetError(f"margin must be from 0 to 1, got {margin}")
    if not predicted.grid.isclose(label_map.grid, 1e-2) or not confidence.grid.isclose(label_map.grid, 1e-2):
        raise NnunetError("fused labels, their confidence and the prediction of a case must lie on one grid")
    before, said = label_map.data, predicted.label_map
    sure = predicted.probabilities.amax(0)
    better = sure > confidence.data + margin
    after = torch.where(better, said, before)
    counted = (before != 0) | (after != 0)
    changed = (before != after)[counted].float().mean() if bool(counted.any()) else torch.zeros(())
    grid = label_map.grid
    return Corrected(
        Image(after, grid), Image(torch.where(better, sure, confidence.data.float()), grid), float(changed)
    )


def out_of_fold(
    plan: Plan, folds: Sequence[FoldModel], *, device: torch.device | str = "cpu", precision: Precision = "float32"
) -> Callable[[DatasetCase], Segmented]:
    """What the fold says of a case that did not see it; each fold's network is loaded once, when it is first asked.

    Raises
    ------
    NnunetError
        When it is called with a case that no fold held out.
    """
    held = {case: fold for fold in folds for case in fold.validation_ids}
    loaded: dict[int | str, Predictor] = {}

    def predict(case: DatasetCase) -> Segmented:
        if case.id not in held:
            raise NnunetError(f"case {case.id} must be held out by a fold to be predicted for a second round")
        fold = held[case.id]
        if fold.fold not in loaded:
            model = TrainedModel.of(plan, [fold])
            loaded[fold.fold] = Predictor(model, device=device, precision=precision)
        return loaded[fold.fold].predict([read_image(path) for path in case.images])

    return predict


def second_round(
    cases: Sequence[DatasetCase],
    predict: Callable[[DatasetCase], Segmented],
    folder: Path,
    *,
    margin: float = 0.0,
) -> tuple[DatasetCase, ...]:
    """The same cases with corrected labels and confidences, in new files in `folder`; hand-made labels stay.

    Parameters
    ----------
    cases
        Of the first round.
    predict
        What the model says that did not see the case, as `out_of_fold` has it.
    folder
        For `CASE.nii.gz` and `CASE_confidence.nii.gz`; a pair that is there and was made from the same files is kept.
    margin
        As of `surer`.
    """
    found = []
    for case in cases:
        if case.label is None or case.confidence is None:
            found.append(case)
            continue
        label, confidence = folder / f"{case.id}.nii.gz", folder / f"{case.id}_confidence.nii.gz"
        corrected = replace(case, label=label, confidence=confidence)
        made = folder / f"{case.id}.json"
        said = predict(case)
        key = sha256_json([sha256_file(case.label), sha256_file(case.confidence), margin, _of(said)])
        if not (_has(made, key) and label.is_file() and confidence.is_file()):
            result = surer(read_labels(case.label), read_image(case.confidence), said, margin=margin)
            made.unlink(missing_ok=True)
            write_labels(label, result.label_map)
            write_image(confidence, result.confidence)
            write_json(made, {"key": key, "replaced": result.replaced})
        found.append(corrected)
    return tuple(found)


def _of(said: Segmented) -> str:
    parts: list[Any] = [said.values.tolist(), hashlib.sha256(said.probabilities.numpy().tobytes()).hexdigest()]
    return sha256_json(parts)


def _has(made: Path, key: str) -> bool:
    try:
        return bool(json.loads(made.read_text(encoding="utf-8"))["key"] == key)
    except (OSError, ValueError, KeyError, TypeError):
        return False
