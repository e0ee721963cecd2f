"""Evidence spoilt on purpose: registrations that failed, so that a calibration sees more than good cases."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from covoxel.fusion.base import Evidence
from covoxel.spatial.smoothing import refine
from covoxel.spatial.warp import warp

OF_THE_IMAGE = ("noisy", "inverted")
"""Kinds that spoil the image and not the registrations: the vote is then as good as ever, though it looks bad."""

_CELLS = 4  # nodes along each side of a random smooth displacement


def planted(evidence: Evidence, *, seed: int = 0) -> Iterator[tuple[str, Evidence]]:
    """The same case with failures of many kinds and degrees, each with its name; the same for the same seed.

    ============== ===================================================================================================
    kind           what is done
    ============== ===================================================================================================
    few            two atlases alone (where there are more)
    single         one atlas alone (where there are more)
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
    """
    generator = torch.Generator().manual_seed(seed)
    atlases, shape = len(evidence.moved), evidence.fixed.shape
    side = _side(evidence)

    def drawn(low: float, high: float) -> float:
        return side * (low + (high - low) * float(torch.rand((), generator=generator)))

    order = torch.randperm(atlases, generator=generator)
    if atlases > 2:
        yield "few", alone(evidence, order[:2])
    if atlases > 1:
        yield "single", alone(evidence, order[-1:])
    one = _shifts(1, shape, drawn(0.1, 0.6), generator).expand(atlases, -1)
    yield "shifted", displaced(evidence, one)
    one = _shifts(1, shape, drawn(0.6, 1.2), generator).expand(atlases, -1)
    yield "shifted-far", displaced(evidence, one)
    yield "scattered", displaced(evidence, _shifts(atlases, shape, drawn(0.1, 0.6), generator))
    bend = _bends(1, shape, drawn(0.1, 0.6), generator)
    yield "warped", displaced(evidence, bend.expand(atlases, *bend.shape[1:]))
    yield "warped-each", displaced(evidence, _bends(atlases, shape, drawn(0.1, 0.6), generator))
    axis = int(torch.randint(len(shape), (), generator=generator))
    yield "flipped", flipped(evidence, axis)
    if atlases > 2:
        shifts = _shifts(atlases, shape, drawn(0.3, 0.8), generator)
        shifts[order[: atlases - round(0.7 * atlases)]] = 0
        yield "broken", displaced(evidence, shifts)
    fixed = evidence.fixed
    noise = torch.randn(fixed.shape, generator=generator).to(fixed) * fixed.std(correction=0)
    yield "noisy", replace(evidence, fixed=fixed + drawn(0.5, 3.0) / side * noise)
    yield "inverted", replace(evidence, fixed=-fixed)


def taken(evidence: Evidence, atlases: Tensor) -> Evidence:
    """The evidence of some atlases, given by their indices `(atlas,)`, alone."""
    index = atlases.to(evidence.moved.device)
    return replace(evidence, moved=evidence.moved[index], labels=evidence.labels[index], valid=evidence.valid[index])


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


def _shifts(count: int, shape: torch.Size, length: float, generator: torch.Generator) -> Tensor:
    """Shifts, `(count, n)`, of one length in random directions."""
    direction = torch.randn(count, len(shape), generator=generator)
    shifts: Tensor = length * direction / direction.norm(dim=1, keepdim=True)
    return shifts


def _bends(count: int, shape: torch.Size, spread: float, generator: torch.Generator) -> Tensor:
    """Smooth random displacements, `(count, n, *shape)`, of one standard deviation."""
    nodes = torch.randn(count, len(shape), *[_CELLS] * len(shape), generator=generator)
    bend: Tensor = refine(nodes, [side / _CELLS for side in shape], shape)
    return bend * (spread / max(float(bend.std()), 1e-6))
