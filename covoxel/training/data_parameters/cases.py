"""What training is given: an image with the label maps that its atlases propagated to it, and cohorts of such."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from covoxel.fusion import Evidence
from covoxel.fusion.atlas_choice import contradicting_atlases
from covoxel.fusion.base import smallest_winner
from covoxel.fusion.candidates import fuse_image
from covoxel.fusion.source import Source, source_of


@dataclass(frozen=True, eq=False)
class PairedCase:
    """One image and its propagated label maps: a pair of fixed image and atlas each.

    Parameters
    ----------
    id
        Name of the case, unique in its cohort.
    fixed
        `(*shape)` intensities, 2-D or 3-D.
    label_maps
        `(atlas, *shape)` of an integer type: places in the cohort's ascending list of label values, 0 is background.
    valid
        `(atlas, *shape)` bool, inside the atlas' field of view.
    atlas_ids
        Name of each atlas, unique in the case.
    consensus
        `(*shape)` of an integer type, a label map to teach the network in place of those of the atlases; None teaches
        it these, all alike.

    Raises
    ------
    ValueError
        If shapes do not belong together, a map is not of an integer type, names are not unique, or an intensity is
        not finite.
    """

    id: str
    fixed: Tensor
    label_maps: Tensor
    valid: Tensor
    atlas_ids: tuple[str, ...]
    consensus: Tensor | None = None

    def __post_init__(self) -> None:
        shape, atlases = tuple(self.fixed.shape), len(self.atlas_ids)
        if len(shape) not in (2, 3) or atlases < 1:
            raise ValueError(f"case {self.id}: fixed must be 2-D or 3-D with an atlas or more, got {shape}, {atlases}")
        for name, got in (("label_maps", self.label_maps), ("valid", self.valid)):
            if tuple(got.shape) != (atlases, *shape):
                raise ValueError(f"case {self.id}: {name} must have shape {(atlases, *shape)}, got {tuple(got.shape)}")
        self._check_consensus()
        if self.label_maps.is_floating_point() or self.label_maps.dtype == torch.bool:
            raise ValueError(f"case {self.id}: label_maps must be of an integer type, got {self.label_maps.dtype}")
        if self.valid.dtype != torch.bool:
            raise ValueError(f"case {self.id}: valid must be boolean, got {self.valid.dtype}")
        if len(set(self.atlas_ids)) != atlases:
            raise ValueError(f"case {self.id}: atlas_ids must be unique, got {self.atlas_ids}")
        if not self.fixed.isfinite().all():
            raise ValueError(f"case {self.id}: every intensity must be finite")

    def _check_consensus(self) -> None:
        if self.consensus is None:
            return
        shape, kind = tuple(self.consensus.shape), self.consensus.dtype
        if shape != tuple(self.fixed.shape):
            raise ValueError(f"case {self.id}: consensus must have shape {tuple(self.fixed.shape)}, got {shape}")
        if kind.is_floating_point or kind == torch.bool:
            raise ValueError(f"case {self.id}: consensus must be of an integer type, got {kind}")


class PairedCases(Protocol):
    """A cohort: any object with a length and items, a list for one. Items may be read from disk when asked for."""

    def __len__(self) -> int:
        """Number of cases."""
        ...

    def __getitem__(self, index: int, /) -> PairedCase:
        """The case at `index`, the same at every call."""
        ...


def teacher(given: Source | Evidence, atlas_ids: Sequence[str], rule: str = "joint_label_fusion") -> Tensor:
    """Label map `(*shape)` to teach the network: atlases fused by `rule`, without those that contradict the rest."""
    source, contradicting = source_of(given), contradicting_atlases(given, atlas_ids)
    sound = [place for place, name in enumerate(atlas_ids) if name not in contradicting]
    return fuse_image(source.of_atlases(sound) if sound else source, rule).label_map


def paired_case(
    case_id: str, given: Source | Evidence, atlas_ids: Sequence[str], consensus: Tensor | None = None
) -> PairedCase:
    """The evidence of `covoxel.fusion` as training wants it: each atlas' likeliest label at each voxel.

    A tie goes to the smallest label. Takes two or three bytes a voxel and atlas. `consensus` is a label map `(*shape)`
    of label values, such as that of `teacher`.
    """
    source = source_of(given)
    kind = torch.uint8 if source.values.numel() <= 256 else torch.int16
    maps = torch.zeros((source.atlases, *source.shape), dtype=kind, device=source.device)
    valid = torch.zeros((source.atlases, *source.shape), dtype=torch.bool, device=source.device)
    for window in source.windows(reach=0):
        evidence, at = source.evidence(window), (slice(None), *window)
        places = source.places_of(evidence.values).to(kind)
        maps[at] = torch.stack([places[smallest_winner(labels)] for labels in evidence.labels])
        valid[at] = evidence.valid
    place = None if consensus is None else source.places_of(consensus.to(source.values).contiguous()).to(kind)
    return PairedCase(case_id, source.fixed, maps, valid, tuple(atlas_ids), place)
