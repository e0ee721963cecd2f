"""Evidence spoilt on purpose: registrations that failed, so that a calibration sees more than good cases."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from covoxel.fusion.base import Evidence
from covoxel.spatial.smoothing import refine
from covoxel.spatial.warp import warp

OF_THE_IMAGE = ("noisy", "inverted")
"""Kinds that spoil the image and not the registrations: the vote is then as good as ever, though it looks bad."""

_CELLS = 4  # nodes along each side of a random smooth displacement


def planted(evidence: Evidence, *, seed: int = 0, count: int | None = None) -> Iterator[tuple[str, Evidence]]:
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
    evidence
        The case as it is.
    seed
        A kind is the same for the same seed, whatever others are asked for.
    count
        Number of kinds, drawn by the seed; one of them spoils the image. None: all.
    """
    kinds = [kind for kind in _KINDS if len(evidence.moved) >= _KINDS[kind][0]]
    if count is not None:
        kinds = _drawn(kinds, seed, count)
    for kind in kinds:
        draw = _Draw(seed, kind, _side(evidence))
        yield kind, _KINDS[kind][1](evidence, draw)


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

    def bends(self, count: int, shape: torch.Size) -> Tensor:
        """Smooth random displacements, `(count, n, *shape)`, of one standard deviation."""
        nodes = torch.randn(count, len(shape), *[_CELLS] * len(shape), generator=self.generator)
        bend: Tensor = refine(nodes, [side / _CELLS for side in shape], shape)
        return bend * (self.side * self.share(0.1, 0.6) / max(float(bend.std()), 1e-6))


def _few(evidence: Evidence, draw: _Draw, kept: int = 2) -> Evidence:
    return alone(evidence, draw.order(len(evidence.moved))[:kept])


def _moved(
    evidence: Evidence, draw: _Draw, *, low: float = 0.1, high: float = 0.6, each: bool = False, whole: float = 0.0
) -> Evidence:
    """Atlases shifted together, or each by its own, but for a share of them that stays whole."""
    atlases = len(evidence.moved)
    shifts = draw.shifts(atlases if each else 1, evidence.fixed.ndim, low, high).expand(atlases, -1).clone()
    shifts[draw.order(atlases)[: round(whole * atlases)]] = 0
    return displaced(evidence, shifts)


def _warped(evidence: Evidence, draw: _Draw, *, each: bool = False) -> Evidence:
    atlases, shape = len(evidence.moved), evidence.fixed.shape
    bend = draw.bends(atlases if each else 1, shape)
    return displaced(evidence, bend.expand(atlases, *bend.shape[1:]))


def _flipped(evidence: Evidence, draw: _Draw) -> Evidence:
    return flipped(evidence, int(draw.order(evidence.fixed.ndim)[0]))


def _noisy(evidence: Evidence, draw: _Draw) -> Evidence:
    fixed = evidence.fixed
    noise = torch.randn(fixed.shape, generator=draw.generator).to(fixed)
    return replace(evidence, fixed=fixed + draw.share(0.5, 3.0) * fixed.std(correction=0) * noise)


def _inverted(evidence: Evidence, draw: _Draw) -> Evidence:
    return replace(evidence, fixed=-evidence.fixed)


_KINDS: dict[str, tuple[int, Callable[[Evidence, _Draw], Evidence]]] = {  # the fewest atlases, and what is done
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


def alone(evidence: Evidence, atlases: Tensor) -> Evidence:
    """The evidence with all atlases blind but those of the indices given; there are as many atlases as before."""
    seen = torch.zeros(len(evidence.moved), dtype=torch.bool)
    seen[atlases] = True
    seen = seen.to(evidence.valid.device).view(-1, *[1] * evidence.fixed.ndim)
    return replace(evidence, valid=evidence.valid & seen)


def flipped(evidence: Evidence, axis: int) -> Evidence:
    """All atlases mirrored along an axis of the grid, the image as it is."""
    moved, labels, valid = (
        x.flip(axis - evidence.fixed.ndim) for x in (evidence.moved, evidence.labels, evidence.valid)
    )
    return replace(evidence, moved=moved, labels=labels, valid=valid)


def displaced(evidence: Evidence, displacement_vox: Tensor) -> Evidence:
    """Atlases moved on by `(atlas, n)` shifts or `(atlas, n, *shape)` displacements in voxels of the grid."""
    shape = evidence.fixed.shape
    if displacement_vox.ndim == 2:
        displacement_vox = displacement_vox[(..., *[None] * len(shape))].expand(-1, -1, *shape)
    displacement_vox = displacement_vox.to(evidence.moved)
    stacked = torch.cat([evidence.moved[:, None], evidence.labels, evidence.valid[:, None].float()], 1)
    there = warp(stacked, displacement_vox)
    return replace(evidence, moved=there[:, 0], labels=there[:, 1:-1], valid=there[:, -1] > 0.5)


def _side(evidence: Evidence) -> float:
    """Root of the mean volume of a structure in an atlas, in voxels, at least 2."""
    volumes = evidence.labels[:, 1:].flatten(2).sum(2)
    there = volumes[volumes > 1]
    return max(2.0, float(there.mean()) ** (1 / evidence.fixed.ndim)) if len(there) else 2.0
