"""Batches: which patch of which case, and how it is changed, known from the seed and the step alone."""

import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from numpy.typing import NDArray
from torch import Tensor

from covoxel.external.nnunet.library import managers
from covoxel.external.nnunet.prepared import ANNOTATED, PreparedCase, load_prepared
from covoxel.external.nnunet.weighting import Weighting
from covoxel.training.seeds import seed_of

_DRAWING = threading.Lock()
"""nnU-Net's transforms draw from the generators of the whole process."""


class Batch(NamedTuple):
    """What a step sees.

    Parameters
    ----------
    data
        `(batch, channel, *patch)` float32.
    labels
        `(batch, 1, *patch)` int16.
    weights
        `(batch, 1, *patch)` float32 of voxels; None: 1.
    cases
        `(batch,)` float32 weights of cases.
    """

    data: Tensor
    labels: Tensor
    weights: Tensor | None
    cases: Tensor


@dataclass(frozen=True)
class Teacher:
    """A case that teaches.

    Parameters
    ----------
    id
        Its name.
    fused
        Whether its labels were fused.
    weight
        Of the case in the loss.
    """

    id: str
    fused: bool
    weight: float


@dataclass(frozen=True, eq=False)
class Recipe:
    """What batches are made by.

    Parameters
    ----------
    folder
        Of prepared cases.
    teachers
        Cases, by id ascending.
    weighting
        How fused labels count.
    plans, dataset_json, configuration
        As of `Plan`.
    drawn
        Sides of the patch that is cut out before it is turned.
    transforms
        Of nnU-Net.
    foreground
        Share of each batch with a structure for sure.
    seed
        Of all that is drawn.
    """

    folder: Path
    teachers: Sequence[Teacher]
    weighting: Weighting
    plans: Mapping[str, Any]
    dataset_json: Mapping[str, Any]
    configuration: str
    drawn: tuple[int, ...]
    transforms: Any
    foreground: float
    seed: int


class _Ids:
    """What nnU-Net's loader wants to be told of its cases."""

    def __init__(self, identifiers: Sequence[str]) -> None:
        self.identifiers = list(identifiers)


class Batches:
    """The batch of each step; the same whoever asks for it, whenever.

    Parameters
    ----------
    recipe
        What they are made by.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        _, own, labels = managers(recipe.plans, recipe.dataset_json, recipe.configuration)
        ids = [teacher.id for teacher in recipe.teachers]
        self.size, self.flat = int(own.batch_size), len(own.patch_size) == 2
        self.loader = nnUNetDataLoader(
            _Ids(ids), self.size, list(recipe.drawn), own.patch_size, labels, recipe.foreground
        )
        self.loader.has_ignore = labels.has_ignore_label
        self.shares = _shares(recipe.teachers, recipe.weighting.hand_share)
        self.weighs = any(teacher.fused for teacher in recipe.teachers) or labels.has_ignore_label
        self._cases: dict[str, PreparedCase] = {}

    def __getitem__(self, step: int) -> Batch:
        """Batch of a step."""
        samples = []
        for place in range(self.size):
            with _drawn_by(seed_of("nnunet", self.recipe.seed, step, place)), torch.no_grad():
                samples.append(self._sample(place))
        data, labels, weights, cases = zip(*samples, strict=True)
        found = [each for each in weights if each is not None]
        return Batch(torch.stack(data), torch.stack(labels), torch.stack(found) if found else None, torch.tensor(cases))

    def __getstate__(self) -> dict[str, Any]:
        """For a worker, which opens files of its own."""
        return {**self.__dict__, "_cases": {}}

    def _sample(self, place: int) -> tuple[Tensor, Tensor, Tensor | None, float]:
        teacher = self.recipe.teachers[int(np.random.choice(len(self.recipe.teachers), p=self.shares))]
        case = self._case(teacher.id)
        box = self._box(case, self.loader.get_do_oversample(place))
        given: dict[str, Any] = {
            "image": torch.from_numpy(crop_and_pad_nd(case.data, box, 0)).float(),
            "segmentation": torch.from_numpy(crop_and_pad_nd(case.labels, box, -1)).to(torch.int16),
        }
        if self.weighs:
            given["regression_target"] = self._distrust(case, teacher, box)
        if self.flat:
            given = {name: array[:, 0] for name, array in given.items()}
        found = self.recipe.transforms(**given)
        own = self.recipe.weighting.fused_weight if teacher.fused else 1.0
        weights = 1 - found["regression_target"].clamp(0, 1) if self.weighs else None
        return found["image"], found["segmentation"], weights, teacher.weight * own

    def _distrust(self, case: PreparedCase, teacher: Teacher, box: Sequence[Sequence[int]]) -> Tensor:
        """1 less the weight of each voxel, so that what is padded weighs 1, as with nnU-Net."""
        if case.confidence is None:
            return torch.zeros([1, *(high - low for low, high in box)])
        how, confidence = self.recipe.weighting, np.asarray(case.confidence, dtype=np.float32)
        if not teacher.fused:  # nnU-Net's ignore label alone
            return torch.from_numpy(crop_and_pad_nd(1 - confidence, box, 0))
        weights = np.where(confidence > 0, confidence, 0) ** how.power if how.power else (confidence > 0) * 1.0
        weights = np.where(confidence < how.ignore_below, 0, weights).astype(np.float32)
        return torch.from_numpy(crop_and_pad_nd(1 - weights, box, 0))

    def _box(self, case: PreparedCase, foreground: bool) -> list[list[int]]:
        known = self.loader.annotated_classes_key
        places = {known if label == ANNOTATED else label: at for label, at in case.places.items()}
        low, high = self.loader.get_bbox(case.data.shape[1:], foreground, places)
        return [[int(a), int(b)] for a, b in zip(low, high, strict=True)]

    def _case(self, case: str) -> PreparedCase:
        if case not in self._cases:
            self._cases[case] = load_prepared(self.recipe.folder, case)
        return self._cases[case]


def _shares(teachers: Sequence[Teacher], hand: float) -> NDArray[np.float64]:
    """Probability of each case."""
    fused = np.array([teacher.fused for teacher in teachers])
    if fused.all() or (~fused).mean() >= hand:
        return np.full(len(teachers), 1 / len(teachers))
    return np.where(fused, (1 - hand) / fused.sum(), hand / (~fused).sum())


@contextmanager
def _drawn_by(seed: int) -> Iterator[None]:
    """Within this all generators of the process begin from `seed`; afterwards they go on from where they were."""
    with _DRAWING, torch.random.fork_rng(devices=[]):
        before, other = np.random.get_state(), random.getstate()
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before)
            random.setstate(other)
