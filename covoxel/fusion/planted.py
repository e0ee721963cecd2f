"""Evidence spoilt on purpose: registrations that failed, so that a calibration sees more than good cases."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from covoxel.fusion.base import Evidence
from covoxel.fusion.source import Source, source_of
from covoxel.fusion.spoilt import Bends, Blind, Displaced, Flipped, WithImage
from covoxel.fusion.survey import votes_of

OF_THE_IMAGE = ("noisy", "inverted")
"""Kinds that spoil the image and not the registrations: the vote is then as good as ever, though it looks bad."""

_CELLS = 4  # nodes along each side of a random smooth displacement


def planted(given: Source | Evidence, *, seed: int = 0, count: int | None = None) -> Iterator[tuple[str, Source]]:
    """The same case with failures of many kinds and degrees, each with its name.

    ============== ===================================================================================================
    kind           what is done
    ============== ===================================================================================================
    few            all atlases but two are blind (where there are three or more)
    single         all but one (where there are more)
    shifted        all atlases by one and the same random shift
    shifted-far    the same, farther
    scattered      every atlas by a shift of its own
    warped         all atlases by one and the same smooth random displacement
    warped-each    every atlas by one of its own
    flipped        all atlases mirrored along one axis
    broken         seven atlases of ten shifted, each by a shift of its own (where there are three or more)
    noisy          the image with noise of 0.5 to 3 times its own standard deviation; registrations as they are
    inverted       the image with dark for bright; registrations as they are
    ============== ===================================================================================================

    Shifts are 0.1 to 0.6 of a structure's side, the root of the mean volume of the structures (`shifted-far`: 0.6 to
    1.2), displacements of the same standard deviation.

    Parameters
    ----------
    given
        The case as it is.
    seed
        A kind is the same for the same seed, whatever others are asked for.
    count
        Number of kinds, drawn by the seed; one of them spoils the image. None: all.
    """
    source = source_of(given)
    kinds = [kind for kind in _KINDS if source.atlases >= _KINDS[kind][0]]
    if count is not None:
        kinds = _drawn(kinds, seed, count)
    for kind in kinds:
        draw = _Draw(seed, kind, _side(source))
        yield kind, _KINDS[kind][1](source, draw)


def _drawn(kinds: list[str], seed: int, count: int) -> list[str]:
    order = [kinds[i] for i in torch.randperm(len(kinds), generator=torch.Generator().manual_seed(seed)).tolist()]
    image = [kind for kind in order if kind in OF_THE_IMAGE][: min(1, count)]
    return image + [kind for kind in order if kind not in OF_THE_IMAGE][: max(0, count - 1)]


class _Draw:
    """What is drawn for one kind of failure: lengths, directions, atlases; always the same for one seed and kind."""

    def __init__(self, seed: int, kind: str, side: float) -> None:
        self.generator = torch.Generator().manual_seed(seed * 64 + list(_KINDS).index(kind))
        self.side = side

    def share(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def order(self, count: int) -> Tensor:
        return torch.randperm(count, generator=self.generator)

    def shifts(self, count: int, n: int, low: float, high: float) -> Tensor:
        """Shifts, `(count, n)`, of one length in random directions."""
        direction = torch.randn(count, n, generator=self.generator)
        length = self.side * self.share(low, high)
        shifts: Tensor = length * direction / torch.linalg.vector_norm(direction, dim=1, keepdim=True)
        return shifts

    def bends(self, count: int, shape: tuple[int, ...]) -> Bends:
        """Smooth random displacements of one standard deviation."""
        nodes = torch.randn(count, len(shape), *[_CELLS] * len(shape), generator=self.generator)
        bends = Bends(nodes, shape)
        return bends.times(self.side * self.share(0.1, 0.6) / max(bends.spread(), 1e-6))


def _few(source: Source, draw: _Draw, kept: int = 2) -> Source:
    return alone(source, draw.order(source.atlases)[:kept])


def _moved(
    source: Source, draw: _Draw, *, low: float = 0.1, high: float = 0.6, each: bool = False, whole: float = 0.0
) -> Source:
    """Atlases shifted together, or each by its own, but for a share of them that stays whole."""
    shifts = draw.shifts(source.atlases if each else 1, len(source.shape), low, high)
    shifts = shifts.expand(source.atlases, -1).clone()
    shifts[draw.order(source.atlases)[: round(whole * source.atlases)]] = 0
    return displaced(source, shifts)


def _warped(source: Source, draw: _Draw, *, each: bool = False) -> Source:
    bends = draw.bends(source.atlases if each else 1, source.shape)
    return Displaced(source, lambda atlas, window: bends.of(atlas if each else 0, window))


def _flipped(source: Source, draw: _Draw) -> Source:
    return flipped(source, int(draw.order(len(source.shape))[0]))


def _noisy(source: Source, draw: _Draw) -> Source:
    fixed = source.fixed
    noise = torch.randn(fixed.shape, generator=draw.generator).to(fixed)
    return WithImage(source, fixed + draw.share(0.5, 3.0) * fixed.std(correction=0) * noise)


def _inverted(source: Source, draw: _Draw) -> Source:
    return WithImage(source, -source.fixed)


_KINDS: dict[str, tuple[int, Callable[[Source, _Draw], Source]]] = {  # the fewest atlases, and what is done
    "few": (3, _few),
    "single": (2, partial(_few, kept=1)),
    "shifted": (1, _moved),
    "shifted-far": (1, partial(_moved, low=0.6, high=1.2)),
    "scattered": (1, partial(_moved, each=True)),
    "warped": (1, _warped),
    "warped-each": (1, partial(_warped, each=True)),
    "flipped": (1, _flipped),
    "broken": (3, partial(_moved, low=0.3, high=0.8, each=True, whole=0.3)),
    "noisy": (1, _noisy),
    "inverted": (1, _inverted),
}


def alone(given: Source | Evidence, atlases: Tensor) -> Source:
    """The evidence with all atlases blind but those of the indices given; there are as many atlases as before."""
    return Blind(source_of(given), atlases.tolist())


def flipped(given: Source | Evidence, axis: int) -> Source:
    """All atlases mirrored along an axis of the grid, the image as it is."""
    return Flipped(source_of(given), axis)


def displaced(given: Source | Evidence, shifts_vox: Tensor) -> Source:
    """Atlases moved on by `(atlas, n)` shifts in voxels of the grid."""

    def shift(atlas: int, window: tuple[slice, ...]) -> Tensor:
        shape = [side.stop - side.start for side in window]
        return shifts_vox[atlas].float()[(..., *[None] * len(shape))].expand(-1, *shape)

    return Displaced(source_of(given), shift)


def _side(source: Source) -> float:
    """Root of the mean volume of a structure in an atlas, in voxels, at least 2."""
    volumes = votes_of(source).volumes[:, 1:]
    there = volumes[volumes > 1]
    return max(2.0, float(there.mean()) ** (1 / len(source.shape))) if len(there) else 2.0
