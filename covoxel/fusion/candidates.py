"""Candidates for one case: the result of every rule, and their consensus, from which one is chosen."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from covoxel.fusion.base import Evidence, Fused, fuse, fused_of, smallest_type
from covoxel.fusion.source import Source, place_of, source_of
from covoxel.fusion.tiling import Window, grown, whole_window, windows_of, within
from covoxel.spatial import Image

CONSENSUS = "consensus"
"""Name of the mean of the probabilities of the rules of `CONSENSUS_OF`."""

CONSENSUS_OF = ("joint_label_fusion", "locally_weighted")
"""Rules that compare atlases and image voxel by voxel: good ones, and their errors differ."""

VOTE = "majority"
"""The rule that every other one must be measured against."""

_NUMBERS = 2**24  # probabilities that are in memory at once

Rules = Mapping[str, Mapping[str, Any]]
"""Settings by name of rule."""


class Restorer(Protocol):
    """Makes a label map on another grid from probabilities that come part by part (`covoxel.preprocessing.restore`)."""

    @property
    def reach(self) -> int:
        """Voxels around a part of which it needs the probabilities too."""
        ...

    def put(self, part: Window, around: Window, probabilities: Tensor, values: Tensor) -> None:
        """The probabilities, `(label, *around)`, of the label `values` in a part and around it."""
        ...

    def restored(self, label_map: Tensor) -> Image:
        """The label map on the other grid; `label_map` is that on the grid of the parts."""
        ...


@dataclass(frozen=True, eq=False)
class FusedImage:
    """The result of a fusion of a whole image; probabilities are not kept.

    Parameters
    ----------
    label_map
        `(*shape)` label values, of the smallest whole-number type that holds them; ties as in `Fused`.
    confidence
        `(*shape)` float32 in 0 to 1, as in `Fused`.
    expected
        `(2, label)` float64: the probability of each label of the source summed over the voxels where it is the
        result, and over all.
    restored
        The label map on another grid, if that was asked for.
    """

    label_map: Tensor
    confidence: Tensor
    expected: Tensor
    restored: Image | None = None

    @classmethod
    def of(cls, fused: Fused, values: Tensor) -> "FusedImage":
        """The result of fusing evidence of a whole image, its probabilities of these label values."""
        shape = tuple(fused.label_map.shape)
        canvas = _Canvas(values, shape, None, fused.label_map.device)
        canvas.put(whole_window(shape), whole_window(shape), fused, values)
        return canvas.finished()


def candidates(
    given: Source | Evidence,
    rules: Rules,
    *,
    consensus: bool = True,
    onto: Callable[[], Restorer] | None = None,
) -> dict[str, FusedImage]:
    """Results by name, worked out part by part.

    Memory: seven to nine bytes a voxel and candidate, what the rules know of the whole image (some 30 bytes a voxel),
    and what a part takes, which does not grow with the image, its structures or its atlases.

    Parameters
    ----------
    given
        The warped atlases.
    rules
        Settings by name of rule.
    consensus
        Whether the consensus is a candidate too, where all rules of `CONSENSUS_OF` are among `rules`.
    onto
        Makes what restores a label map to another grid, one for each candidate.

    Returns
    -------
    dict
        In the order of `rules`, the consensus last.

    Raises
    ------
    ValueError
        If there is no rule.
    """
    source = source_of(given)
    names = [*rules, *([CONSENSUS] if consensus and set(CONSENSUS_OF) <= set(rules) else [])]
    canvases = {
        name: _Canvas(source.values, source.shape, None if onto is None else onto(), source.device) for name in names
    }
    edge = max([0, *(canvas.reach for canvas in canvases.values())])
    for part in fused_parts(source, rules, consensus=consensus, edge=edge):
        for name, fused in part.results.items():
            canvases[name].put(part.window, part.around, fused, part.values)
    return {name: canvas.finished() for name, canvas in canvases.items()}


@dataclass(frozen=True, eq=False)
class FusedPart:
    """Results of a part of an image.

    Parameters
    ----------
    window
        The part; of all parts together, every voxel is in one.
    around
        What the results are of: the part and some voxels around it.
    results
        By name.
    values
        `(label,)`, the label values that their probabilities are of.
    """

    window: Window
    around: Window
    results: dict[str, Fused]
    values: Tensor


def fused_parts(source: Source, rules: Rules, *, consensus: bool = True, edge: int = 0) -> Iterator[FusedPart]:
    """Results of one part of an image after another, each with `edge` voxels around it; else as `candidates`."""
    _check(rules)
    reach = max([1, *(int(settings.get("search", 1)) for settings in rules.values())])
    for window in source.windows(reach=edge + reach):
        around = grown(window, edge, source.shape)
        evidence = source.evidence(around, reach=reach)
        yield FusedPart(window, around, candidates_on(evidence, rules, consensus=consensus), evidence.values)


def candidates_on(evidence: Evidence, rules: Rules, *, consensus: bool = True) -> dict[str, Fused]:
    """Results of one piece of evidence, with their probabilities; arguments and errors as for `candidates`."""
    _check(rules)
    results = {rule: fuse(rule, evidence, **settings) for rule, settings in rules.items()}
    if consensus and set(CONSENSUS_OF) <= set(results):
        seen = evidence.valid.any(0)[place_of(evidence).inner]
        both = torch.stack([results[rule].probabilities for rule in CONSENSUS_OF])
        results[CONSENSUS] = fused_of(both.mean(0), evidence.values, seen.to(both.device))
    return results


def fuse_image(
    given: Source | Evidence, rule: str, *, onto: Callable[[], Restorer] | None = None, **settings: Any
) -> FusedImage:
    """The result of one rule on a whole image; as `candidates`."""
    return candidates(given, {rule: settings}, onto=onto)[rule]


def painted(source: Source, values: Tensor, read: Callable[[Window], Tensor], restorer: Restorer) -> FusedImage:
    """The result that probabilities `(label, *window)` of `values` are, which are read window by window.

    Parameters
    ----------
    source
        The atlases: where none sees, confidence is 0.
    values
        `(label,)` label values.
    read
        Gives the probabilities of a window.
    restorer
        Brings the label map to another grid.
    """
    canvas = _Canvas(values, source.shape, restorer, source.device)
    for window in windows_of(source.shape, _NUMBERS // len(values)):
        around = grown(window, canvas.reach, source.shape)
        seen = torch.stack([source.look(atlas, around)[1] for atlas in range(source.atlases)]).any(0)
        canvas.put(window, around, fused_of(read(around), values.to(seen.device), seen), values.to(seen.device))
    return canvas.finished()


def _check(rules: Rules) -> None:
    if not rules:
        raise ValueError("rules must name at least one fusion rule, got none")


class _Canvas:
    """One candidate of a whole image, filled part by part."""

    def __init__(self, values: Tensor, shape: tuple[int, ...], restorer: Restorer | None, device: torch.device) -> None:
        self._values, self._restorer = values, restorer
        self._label_map = torch.zeros(shape, dtype=smallest_type(values), device=device)
        self._confidence = torch.zeros(shape, device=device)
        self._expected = torch.zeros((2, len(values)), dtype=torch.float64, device=device)

    @property
    def reach(self) -> int:
        """Voxels around a part that are wanted."""
        return 0 if self._restorer is None else self._restorer.reach

    def put(self, part: Window, around: Window, fused: Fused, values: Tensor) -> None:
        """The result of a part and around it, of the label `values`."""
        if self._restorer is not None:
            self._restorer.put(part, around, fused.probabilities, values)
        own = within(part, around)
        labels, probabilities = fused.label_map[own], fused.probabilities[(slice(None), *own)]
        self._label_map[part] = labels.to(self._label_map.dtype)
        self._confidence[part] = fused.confidence[own]
        result = torch.searchsorted(values, labels.contiguous()).flatten()
        flat = probabilities.flatten(1)
        won = flat.gather(0, result[None])[0].double()
        places = torch.searchsorted(self._values, values)
        self._expected[0, places] += torch.bincount(result, weights=won, minlength=len(values))
        self._expected[1, places] += flat.sum(1, dtype=torch.float64)

    def finished(self) -> FusedImage:
        """The whole image."""
        restored = None if self._restorer is None else self._restorer.restored(self._label_map)
        return FusedImage(self._label_map, self._confidence, self._expected, restored)
