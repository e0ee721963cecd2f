"""One look at every case before training: which pairs there are, and how many voxels each label has."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from covoxel.training.data_parameters.cases import PairedCase, PairedCases
from covoxel.training.data_parameters.losses import class_weights, fixed_weighting, seen_voxels


@dataclass(frozen=True, eq=False)
class Survey:
    """What training must know of the whole cohort.

    Parameters
    ----------
    pairs
        Case and atlas of each pair.
    foreground
        `(pair,)` voxels its atlas gives a structure.
    counts
        `(label,)` voxels over all pairs.
    seen
        Voxels that any atlas of the case sees, summed over all pairs.
    """

    pairs: tuple[tuple[str, str], ...]
    foreground: Tensor
    counts: Tensor
    seen: int

    def class_weight(self, power: float) -> Tensor:
        """Weight of each label in the cross-entropy, `(label,)`."""
        return class_weights(self.counts, power=power)

    def unit(self, class_weight: Tensor) -> float:
        """Mean share of structures in the label maps, each voxel with its class weight: the scale of a gradient."""
        return float((class_weight[1:].cpu() * self.counts[1:]).sum()) / self.seen

    def factors(self, *, fixed: bool) -> Tensor:
        """Factor of each pair's cross-entropy, `(pair,)`: that of equation 4, or 1.

        The mean over the cohort is made one: otherwise equation 2 would become some ten times smaller against
        equation 3, which it is weighed against, and every parameter would rise.
        """
        factors = fixed_weighting(self.foreground) if fixed else torch.ones(len(self.pairs))
        return factors / factors.mean()


def survey(cases: PairedCases, labels: int) -> Survey:
    """Look at every case once.

    Raises
    ------
    ValueError
        If there is no case, two have one name, a label map names a label that is not among `labels`, or no label map
        has any structure; the sentence names the case.
    """
    if labels < 2 or len(cases) < 1:
        raise ValueError(f"training needs a case and two labels (background is one), got {len(cases)} and {labels}")
    names: set[str] = set()
    pairs: list[tuple[str, str]] = []
    foreground: list[Tensor] = []
    counts, seen = torch.zeros(labels, dtype=torch.int64), 0
    for index in range(len(cases)):
        case = cases[index]
        if case.id in names:
            raise ValueError(f"case ids must be unique, {case.id} occurs twice")
        names.add(case.id)
        own = label_counts(case, labels)
        pairs += [(case.id, atlas) for atlas in case.atlas_ids]
        foreground.append(own[:, 1:].sum(1))
        counts += own.sum(0)
        seen += int(seen_voxels(case.valid)) * len(case.atlas_ids)
    if not counts[1:].any():
        raise ValueError("no label map of the cohort has any structure: there is nothing to learn")
    return Survey(tuple(pairs), torch.cat(foreground), counts, seen)


def label_counts(case: PairedCase, labels: int) -> Tensor:
    """Voxels of each label that each atlas sees, `(atlas, label)` int64."""
    if case.label_maps.amin() < 0 or case.label_maps.amax() >= labels:
        found = (int(case.label_maps.amin()), int(case.label_maps.amax()))
        raise ValueError(
            f"case {case.id}: label_maps must hold places 0 to {labels - 1}, found {found[0]} to {found[1]}"
        )
    rows = [
        torch.bincount(label_map[mask].long().cpu(), minlength=labels)
        for label_map, mask in zip(case.label_maps, case.valid, strict=True)
    ]
    return torch.stack(rows)


def standardised(fixed: Tensor) -> Tensor:
    """Intensities with mean 0 and standard deviation 1; a constant image becomes zeros."""
    fixed = fixed.float()
    deviation = float(fixed.std(correction=0))
    return (fixed - fixed.mean()) / (deviation if deviation > math.ulp(1.0) else 1.0)
