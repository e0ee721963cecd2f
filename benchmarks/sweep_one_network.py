"""The methods of the sweep whose one network registers and segments: their training, and what they say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.sweep_ground import (
    NDIM,
    Atlases,
    Ground,
    Networks,
    Traces,
    save_weights,
    size_of,
    with_weights,
)
from benchmarks.sweep_recipes import phases_of
from benchmarks.sweep_scores import VALUES
from covoxel.registration import MovingBatch
from covoxel.registration.alignment import align
from covoxel.registration.work import WorkGrid
from covoxel.segmentation import PairSegmenter, segment_pairs
from covoxel.spatial import Image, Transform
from covoxel.training.joint_net import JointNetRecipe, train_joint_net
from covoxel.training.joint_net.answer import Stitched
from nets.joint import JointNet
from tasks.joint_recipe import build_joint_net

_WEIGHTS = "network.safetensors"


def train_one(recipe: JointNetRecipe, ground: Ground, folder: Path | None, traces: Traces) -> dict[str, Any]:
    """Train it; see `benchmarks.sweep_networks.train`."""
    network = build_joint_net(recipe, NDIM, len(VALUES))
    before = matrices_of(network)
    spacing_mm = ground.frame.spacing_mm
    trained = train_joint_net(
        network, ground.cases, recipe, values=len(VALUES), fused=ground.fused, spacing_mm=spacing_mm, **traces
    )
    if folder is not None:
        save_weights(folder / _WEIGHTS, trained.network)
    about = {"judging": list(trained.judging), "notes": list(trained.notes)}
    stitches = stitches_of(before, matrices_of(trained.network))
    return {"steps": phases_of(recipe), "parameters": size_of(network), "stitches": stitches} | about


def load_one(recipe: JointNetRecipe, folder: Path, spacing_mm: tuple[float, ...]) -> Networks:
    """Read it back."""
    network = build_joint_net(recipe, NDIM, len(VALUES))
    with_weights(network, folder / _WEIGHTS)
    return _OneNetwork(network, recipe, spacing_mm)


def matrices_of(network: object) -> dict[str, Tensor]:
    """Alphas `(channel, 2, 2)` of each cross-stitch unit; none of a network without."""
    return network.stitch_matrices() if isinstance(network, Stitched) else {}


def stitches_of(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean size of what the alphas differ by, over all of them: from the identity, and from what they were."""
    if not after:
        return {}
    ours, theirs = (torch.cat(list(matrices.values())) for matrices in (after, before))
    return {"alpha": float((ours - torch.eye(2)).abs().mean()), "alpha_moved": float((ours - theirs).abs().mean())}


class _OneNetwork:
    """A network beside each of the atlases, whose labels it sees."""

    def __init__(self, network: JointNet, recipe: JointNetRecipe, spacing_mm: tuple[float, ...]) -> None:
        def logits(fixed: Tensor, moving: Tensor, moving_probabilities: Tensor) -> Tensor:
            said: Tensor = network(fixed, moving, moving_probabilities).fixed_logits
            return said

        self.network, self.model = network, PairSegmenter(logits, VALUES, spacing_mm, recipe.alignment)

    def label_maps(self, fixed: Image, atlases: Atlases, views: int) -> dict[str, Tensor]:
        return {"": segment_pairs(self.model, fixed, atlases.images, atlases.label_maps).label_map}

    @torch.no_grad()
    def transforms(self, fixed: Image, atlases: Atlases) -> list[Transform]:
        """As the engine `learned` registers, with the labels of the atlases; in one batch, the images are small."""
        work = WorkGrid.of(fixed.grid, self.model)
        values = torch.tensor(VALUES).view(-1, *[1] * NDIM)
        batch = MovingBatch.of(
            atlases.images, "cpu", labels=[(label_map.data[None] == values).float() for label_map in atlases.label_maps]
        )
        assert batch.labels is not None
        start = align(fixed, batch, self.model.alignment)
        images = work.images(fixed, batch, start)
        said = self.network(images[0].expand_as(images[1]), images[1], work.moved(batch.labels, batch, start))
        displacement_mm = work.displacement_mm(said.registered.displacement_vox)
        return [Transform(t.grid, t.moving_from_fixed, u) for t, u in zip(start, displacement_mm, strict=True)]
