"""Survey: what rules must know of a whole image before they decide on a part, found by going over it once."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from covoxel.fusion.agreement import disagreement
from covoxel.fusion.base import Evidence
from covoxel.fusion.source import Source
from covoxel.fusion.tiling import whole_window


@dataclass(frozen=True, eq=False)
class Votes:
    """What the atlases vote.

    Parameters
    ----------
    undecided
        `(*shape)` bool, where they differ.
    usual
        `(label,)` float64, votes for each label at the undecided voxels, of all atlases that see them.
    foreground
        `(atlas,)` float64, voxels that an atlas sees and gives to labels other than background.
    volumes
        `(atlas, label)` float64, voxels that an atlas gives to each label, seen or not; not counted for background.
    """

    undecided: Tensor
    usual: Tensor
    foreground: Tensor
    volumes: Tensor


@dataclass(frozen=True, eq=False)
class Scales:
    """Intensities of the image and of the moved atlases.

    Parameters
    ----------
    fixed
        Mean and standard deviation of the image over the voxels that all atlases see; where they share none, over all.
        None: it is constant.
    moved
        The same of each atlas.
    sees
        `(atlas,)` bool, whether an atlas sees any voxel.
    """

    fixed: tuple[float, float] | None
    moved: tuple[tuple[float, float] | None, ...]
    sees: Tensor


def votes_of(source: Source) -> Votes:
    """Worked out once for a source."""
    return source.once("votes", lambda: _votes(source, []))


def overlaps_of(source: Source) -> Tensor:
    """Median over the others of the mean Dice over structures of each atlas' labels, `(atlas,)`; 1 without any.

    Worked out once for a source, and its votes with it.
    """
    return source.once("overlaps", lambda: _overlaps(source))


def scales_of(source: Source) -> Scales:
    """Worked out once for a source; one atlas at a time is in memory."""
    return source.once("scales", lambda: _scales(source))


def _votes(source: Source, also: list[Callable[[Evidence, Tensor], None]]) -> Votes:
    undecided = torch.zeros(source.shape, dtype=torch.bool, device=source.device)
    usual = torch.zeros(len(source.values), dtype=torch.float64, device=source.device)
    foreground = torch.zeros(source.atlases, dtype=torch.float64, device=source.device)
    volumes = torch.zeros((source.atlases, len(source.values)), dtype=torch.float64, device=source.device)
    for window in source.windows(reach=0):
        evidence = source.evidence(window)
        here = undecided[window] = disagreement(evidence)
        if len(evidence.values) > 1:
            places = source.places_of(evidence.values)
            usual[places] += _sum(evidence, here)
            foreground += _foreground(evidence)
            volumes[:, places[1:]] += evidence.labels[:, 1:].flatten(2).sum(2)
            for look in also:
                look(evidence, places)
    return Votes(undecided, usual, foreground, volumes)


def _overlaps(source: Source) -> Tensor:
    shape = (len(source.values), source.atlases, source.atlases)
    both, squares = (torch.zeros(shape, dtype=torch.float64, device=source.device) for _ in range(2))

    def count(evidence: Evidence, places: Tensor) -> None:
        """Products of the labels of two atlases, over what both see, and squares of the one where the other sees."""
        seen = evidence.valid.flatten(1).to(evidence.labels.dtype)
        for place, labels in zip(places.tolist()[1:], evidence.labels.transpose(0, 1)[1:], strict=True):
            own = labels.flatten(1) * seen
            some = own.any(0)  # the structure is in a small part
            own, there = own[:, some], seen[:, some]
            both[place] += own @ own.T
            squares[place] += own.square() @ there.T

    votes = _votes(source, [count])
    source.once("votes", lambda: votes)
    whole = (squares + squares.transpose(1, 2))[1:]
    table = torch.where(whole > 0, 2 * both[1:] / whole, torch.nan).nanmean(0)
    table.fill_diagonal_(torch.nan)
    return table.nanmedian(1).values.nan_to_num(1.0)


def _sum(evidence: Evidence, mask: Tensor) -> Tensor:
    """Votes, `(label,)` float64, at the voxels of a mask."""
    votes = evidence.labels[:, :, mask] * evidence.valid[:, None, mask]
    return votes.sum((0, 2), dtype=torch.float64)


def _foreground(evidence: Evidence) -> Tensor:
    pairs = zip(evidence.labels, evidence.valid, strict=True)
    return torch.stack([((1 - labels[0].double()) * valid).sum() for labels, valid in pairs])


def _scales(source: Source) -> Scales:
    everything = whole_window(source.shape)
    shared = torch.ones(source.shape, dtype=torch.bool, device=source.device)
    sees = []
    for atlas in range(source.atlases):
        valid = source.look(atlas, everything)[1]
        shared &= valid
        sees.append(bool(valid.any()))
    if not shared.any():
        shared = torch.ones_like(shared)
    moved = tuple(_scale(source.look(atlas, everything)[0], shared) for atlas in range(source.atlases))
    return Scales(_scale(source.fixed, shared), moved, torch.tensor(sees, device=source.device))


def _scale(image: Tensor, mask: Tensor) -> tuple[float, float] | None:
    inside = image[mask].double()
    spread = float(inside.std(correction=0))
    if spread <= 1e-6 * float(inside.abs().amax()):
        return None
    return float(inside.mean()), spread
