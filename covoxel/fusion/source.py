"""Source: all that the atlases say about a whole image, read part by part, so that no whole indicator is in memory."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import Tensor

from covoxel.fusion.base import Evidence
from covoxel.fusion.tiling import Window, grown, halves, voxels_in, whole_window

_VOXELS = 2**20  # of a part, with what is read around it,
_LOOKS = 2**21  # times atlases,
_NUMBERS = 2**24  # times structures there

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Place:
    """Where a part lies.

    Parameters
    ----------
    source
        Of what it is a part.
    window
        What the part holds, on the grid of the whole image.
    core
        The window within it for which an answer is wanted; the rest is there to be looked at.
    """

    source: "Source"
    window: Window
    core: Window

    @property
    def inner(self) -> Window:
        """The core, counted from the first voxel of the part."""
        return tuple(slice(c.start - w.start, c.stop - w.start) for c, w in zip(self.core, self.window, strict=True))


class Source(ABC):
    """The atlases of one image.

    Parameters
    ----------
    fixed
        `(*shape)` intensities of the image to label.
    values
        `(label,)` int64, label values of all atlases in ascending order, 0 first.
    atlases
        How many there are.
    """

    def __init__(self, fixed: Tensor, values: Tensor, atlases: int) -> None:
        self.fixed = fixed
        self.values = values
        self.atlases = atlases
        self._known: dict[Any, Any] = {}
        self._some: WeakValueDictionary[tuple[int, ...], Source] = WeakValueDictionary()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the image."""
        return tuple(self.fixed.shape)

    @property
    def device(self) -> torch.device:
        """Where everything is computed."""
        return self.fixed.device

    @abstractmethod
    def look(self, atlas: int, window: Window) -> tuple[Tensor, Tensor]:
        """Intensities `(*window)` of a moved atlas, and where it is valid (bool)."""

    @abstractmethod
    def indicators(self, atlas: int, window: Window, values: Tensor) -> Tensor:
        """Interpolated indicators, `(label, *window)`, of these label values in an atlas."""

    @abstractmethod
    def indicators_at(self, atlas: int, voxels: Tensor) -> Tensor:
        """Interpolated indicators, `(label, m)`, of all label values at voxels `(m, n)`."""

    @abstractmethod
    def present(self, window: Window) -> Tensor:
        """Which of the label values may occur in a window, in any atlas, `(label,)` bool; background always."""

    def once(self, what: Any, make: Callable[[], T]) -> T:
        """What `make` gives, worked out once for this source and kept as long as it."""
        if what not in self._known:
            self._known[what] = make()
        known: T = self._known[what]
        return known

    def of_atlases(self, atlases: Sequence[int]) -> "Source":
        """Some atlases alone, in that order; the same object while it is in use."""
        chosen = tuple(int(atlas) for atlas in atlases)
        if chosen == tuple(range(self.atlases)):
            return self
        some = self._some.get(chosen)
        if some is None:
            some = self._some[chosen] = Chosen(self, chosen)
        return some

    def evidence(self, core: Window | None = None, *, reach: int = 0) -> Evidence:
        """Evidence of a window, with `reach` voxels around it, of the structures that occur there.

        None: of the whole image and all structures, for small images; it stands for itself then.
        """
        if core is None:
            return self._read(whole_window(self.shape), self.values, None)
        window = grown(core, reach, self.shape)
        values = self.values[self.present(window).to(self.values.device)]
        return self._read(window, values, Place(self, window, core))

    def _read(self, window: Window, values: Tensor, place: Place | None) -> Evidence:
        shape = tuple(part.stop - part.start for part in window)
        moved = torch.empty((self.atlases, *shape), device=self.device)
        valid = torch.empty((self.atlases, *shape), dtype=torch.bool, device=self.device)
        labels = torch.empty((self.atlases, len(values), *shape), device=self.device)
        for atlas in range(self.atlases):
            moved[atlas], valid[atlas] = self.look(atlas, window)
            labels[atlas] = self.indicators(atlas, window, values)
        return Evidence(self.fixed[window], moved, labels, values, valid, place)

    def windows(self, *, reach: int = 1) -> Iterator[Window]:
        """Windows that hold every voxel once, small enough for the indicators of their structures to be in memory."""
        pending = [whole_window(self.shape)]
        while pending:
            window = pending.pop()
            wide = grown(window, reach, self.shape)
            voxels = voxels_in(wide)
            looks = voxels * self.atlases
            small = voxels <= _VOXELS and looks <= _LOOKS
            if voxels_in(window) == 1 or (small and looks * int(self.present(wide).sum()) <= _NUMBERS):
                yield window
            else:
                pending += reversed(halves(window))

    def places_of(self, values: Tensor) -> Tensor:
        """Where in `values` of the source these are."""
        return torch.searchsorted(self.values, values.to(self.values.device))


class Whole(Source):
    """Evidence of a whole image that is in memory.

    Parameters
    ----------
    evidence
        Of the whole image.
    """

    def __init__(self, evidence: Evidence) -> None:
        super().__init__(evidence.fixed, evidence.values, len(evidence.moved))
        # Not the evidence itself: it is the key under which this is known.
        self._moved, self._labels, self._valid = evidence.moved, evidence.labels, evidence.valid

    def look(self, atlas: int, window: Window) -> tuple[Tensor, Tensor]:
        """Views of what is in memory."""
        return self._moved[atlas][window], self._valid[atlas][window]

    def indicators(self, atlas: int, window: Window, values: Tensor) -> Tensor:
        """A copy, or a view where all labels are wanted."""
        own: Any = self._labels[atlas]
        if len(values) < len(self.values):
            own = own[self.places_of(values)]
        part: Tensor = own[(slice(None), *window)]
        return part

    def indicators_at(self, atlas: int, voxels: Tensor) -> Tensor:
        """A copy."""
        at: Any = (slice(None), *voxels.unbind(1))
        own: Tensor = self._labels[atlas][at]
        return own

    def present(self, window: Window) -> Tensor:
        """Those with an indicator above zero."""
        part: Any = (slice(None), slice(None), *window)
        found: Tensor = (self._labels[part] > 0).flatten(2).any(2).any(0)
        found[0] = True
        return found


class Chosen(Source):
    """Some atlases of a source.

    Parameters
    ----------
    source
        All of them.
    chosen
        Which, in order.
    """

    def __init__(self, source: Source, chosen: tuple[int, ...]) -> None:
        super().__init__(source.fixed, source.values, len(chosen))
        self._source, self._chosen = source, chosen

    def look(self, atlas: int, window: Window) -> tuple[Tensor, Tensor]:
        """As the source's."""
        return self._source.look(self._chosen[atlas], window)

    def indicators(self, atlas: int, window: Window, values: Tensor) -> Tensor:
        """As the source's."""
        return self._source.indicators(self._chosen[atlas], window, values)

    def indicators_at(self, atlas: int, voxels: Tensor) -> Tensor:
        """As the source's."""
        return self._source.indicators_at(self._chosen[atlas], voxels)

    def present(self, window: Window) -> Tensor:
        """Those of all atlases: some may not be there."""
        return self._source.present(window)


def in_memory(source: Source) -> Source:
    """The source, with all indicators interpolated and in memory if the image is one part; otherwise itself.

    Every rule and every sign reads the parts anew. An image of one part, of at most 2^24 indicators, is read once.
    """
    is_one_part = next(source.windows(reach=0)) == whole_window(source.shape)
    return Whole(source.evidence()) if is_one_part else source


_WHOLE: WeakKeyDictionary[Evidence, Whole] = WeakKeyDictionary()  # forgotten with the evidence


def source_of(given: Source | Evidence) -> Source:
    """The source that evidence is a part of; the evidence itself, as one, if it is the whole."""
    if isinstance(given, Source):
        return given
    if given.place is not None:
        return given.place.source
    own = _WHOLE.get(given)
    if own is None:
        own = _WHOLE[given] = Whole(given)
    return own


def place_of(evidence: Evidence, reach: int = 0) -> Place:
    """Where evidence lies.

    Raises
    ------
    ValueError
        If it holds fewer than `reach` voxels around its core, and the image has more.
    """
    place = evidence.place
    if place is None:
        everything = whole_window(tuple(evidence.fixed.shape))
        return Place(source_of(evidence), everything, everything)
    wanted = grown(place.core, reach, place.source.shape)
    if any(w.start > n.start or w.stop < n.stop for w, n in zip(place.window, wanted, strict=True)):
        raise ValueError(f"evidence must reach {reach} voxels beyond its core {place.core}, it is of {place.window}")
    return place
