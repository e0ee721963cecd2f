"""A tiny study of two nested balls, labels 3 and 7, planned and trained once for all tests of nnU-Net."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from covoxel.external.nnunet import (
    Dataset,
    DatasetCase,
    FoldModel,
    Plan,
    Profile,
    plan,
    profile,
    train_fold,
    write_dataset,
)
from covoxel.io import write_image, write_labels
from covoxel.spatial import Grid, Image

NAMES = {3: "shell", 7: "core"}
SHAPE = (16, 20, 12)
TINY = profile(
    "cpu", features=4, most_features=8, epochs=2, iterations=2, save_every=1, average=0.5, precision="float32"
)


def balls(seed: int, grid: Grid) -> tuple[Image, Image]:
    """An image of two balls, one in the other, about a middle that `seed` draws, and its labels."""
    draw = torch.Generator().manual_seed(seed)
    index = torch.stack(torch.meshgrid(*map(torch.arange, grid.shape), indexing="ij"), -1).float()
    middle = torch.tensor(grid.shape) / 2 + torch.randn(grid.ndim, generator=draw)
    distance = (index - middle).norm(dim=-1)
    labels = torch.where(distance < 3, 7, torch.where(distance < 5, 3, 0))
    noise = 0.1 * torch.randn(grid.shape, generator=draw)
    return Image(1 + labels / 7 + noise, grid), Image(labels, grid)


def files_of(folder: Path, seed: int, *, grid: Grid | None = None, fused: bool = False) -> DatasetCase:
    """The files of such a case; a fused one has a confidence of 0.5 in its structures."""
    image, labels = balls(seed, grid or Grid.from_spacing(SHAPE))
    name = f"case{seed}"
    paths = folder / f"{name}.nii.gz", folder / f"{name}_labels.nii.gz", folder / f"{name}_confidence.nii.gz"
    write_image(paths[0], image)
    write_labels(paths[1], labels)
    if fused:
        write_image(paths[2], Image(torch.where(labels.data > 0, 0.5, 1.0), labels.grid))
    return DatasetCase(name, (paths[0],), paths[1], paths[2] if fused else None)


@dataclass(frozen=True)
class Tiny:
    """What was made once."""

    folder: Path
    dataset: Dataset
    plan: Plan
    model: FoldModel


def planned(folder: Path, how: Profile, *, flat: bool = False) -> tuple[Dataset, Plan]:
    """Two hand-labelled and one fused case, and their plan."""
    grid = Grid.from_spacing(SHAPE[: 2 if flat else 3])
    cases = [files_of(folder / "source", seed, grid=grid, fused=seed == 2) for seed in range(3)]
    dataset = write_dataset(folder / "Dataset001_Balls", cases, names=NAMES)
    return dataset, plan(dataset, folder / "work", how)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tmp_path_factory.mktemp("nnunet")
    dataset, made = planned(folder, replace(TINY, mirroring=True))
    return Tiny(folder, dataset, made, train_fold(made, 0, ["case0", "case2"], ["case1"]))
