"""Evidence: what the atlases say about one case, read from the files that earlier stages left."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from covoxel.fusion.gather import Atlas, gather
from covoxel.fusion.source import Source, in_memory
from covoxel.io import read_image, read_labels, read_transform
from covoxel.io.scratch import Scratch
from covoxel.registration.pyramid import cell_factors, cell_grid
from covoxel.spatial import Grid, Image, Transform
from covoxel.spatial.smoothing import cell_means
from tasks.job import Artifact
from tasks.study import Study


@dataclass(frozen=True)
class AtlasFiles:
    """What fusion reads of one atlas: image, labels on its grid, and the transform onto the case."""

    image: Artifact
    labels: Artifact
    transform: Artifact


@dataclass(frozen=True)
class CaseFiles:
    """A preprocessed case and its atlases by id."""

    fixed: Artifact
    atlases: Mapping[str, AtlasFiles]

    @property
    def names(self) -> tuple[str, ...]:
        """Ids of the atlases in the order of the evidence."""
        return tuple(sorted(self.atlases))

    def hashes(self) -> dict[str, str]:
        """SHA-256 of everything that is read, by name."""
        hashes = {"fixed": self.fixed.sha256}
        for name, atlas in self.atlases.items():
            hashes[f"image.{name}"] = atlas.image.sha256
            hashes[f"labels.{name}"] = atlas.labels.sha256
            hashes[f"transform.{name}"] = atlas.transform.sha256
        return hashes


def case_files(study: Study, case: str, atlases: Sequence[str]) -> CaseFiles:
    """Files of a case that was registered, with these of its atlases."""
    layout = study.layout
    return CaseFiles(
        study.artifact("preprocess", case, layout.preprocessed(case)),
        {
            atlas: AtlasFiles(
                image=study.artifact("preprocess", atlas, layout.preprocessed(atlas)),
                labels=study.artifact("preprocess", atlas, layout.preprocessed_labels(atlas)),
                transform=study.artifact("register", case, layout.transform(case, atlas)),
            )
            for atlas in atlases
        },
    )


@contextmanager
def open_evidence(
    files: CaseFiles, device: str, scratch: Path, most_voxels: int | None = None
) -> Iterator[tuple[Image, Source]]:
    """The case's image, and what its atlases say, in the order of their ids, on `device`.

    Atlases are read one at a time. What is not small lies in a folder of `scratch` meanwhile, 17 bytes a voxel of the
    image and one or two a voxel of the label map for each atlas, which goes with the context, also after a failure.

    Parameters
    ----------
    files
        What is read.
    device
        Where the evidence is worked with.
    scratch
        Where folders are made.
    most_voxels
        An image of more voxels is given as means over cells of several, which are so many at most.
    """
    whole = read_image(files.fixed.path).to(device)
    factors = cells_within(whole.grid, most_voxels)
    fixed = Image(cell_means(whole.data[None, None].float(), factors)[0, 0], cell_grid(whole.grid, factors))
    with Scratch(scratch) as kept:
        yield fixed, in_memory(gather(fixed, _atlases(files, whole.grid, fixed.grid, factors), kept))


def cells_within(grid: Grid, most_voxels: int | None) -> tuple[int, ...]:
    """Voxels of a grid in a cell, along each axis: the smallest cells, nearly cubes, of which there are so many."""
    factors, width = (1,) * grid.ndim, 1
    while most_voxels is not None and cell_grid(grid, factors).size > most_voxels:
        width += 1
        factors = cell_factors(grid, float(grid.spacing_mm.min()) * width)
    return factors


def labels_of_cells(labels: Image, most_voxels: int | None) -> Tensor:
    """Label map on the cells of `cells_within`: what most voxels of a cell have, of equals the smallest label.

    Memory: three label maps.
    """
    data, cells = labels.data, cells_within(labels.grid, most_voxels)
    for axis, cell in enumerate(cells):
        before, side, after = data.shape[:axis], data.shape[axis], data.shape[axis + 1 :]
        many = -(-side // cell)
        within = torch.arange(many * cell, device=data.device).clamp_(max=side - 1)
        data = data.index_select(axis, within).reshape(*before, many, cell, *after).movedim(axis + 1, -1)
    return data.flatten(len(cells)).mode(-1).values


def _atlases(files: CaseFiles, whole: Grid, grid: Grid, factors: tuple[int, ...]) -> Iterator[Atlas]:
    for name in files.names:
        atlas = files.atlases[name]
        transform = read_transform(atlas.transform.path, whole)
        displacement = transform.displacement_mm
        if displacement is not None:
            displacement = cell_means(displacement[None], factors)[0]
        yield (
            read_image(atlas.image.path),
            read_labels(atlas.labels.path),
            Transform(grid, transform.moving_from_fixed, displacement),
        )
