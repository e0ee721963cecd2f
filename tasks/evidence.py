"""Evidence: what the atlases say about one case, read from the files that earlier stages left."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from covoxel.fusion.gather import Atlas, gather
from covoxel.fusion.source import Source, in_memory
from covoxel.io import read_image, read_labels, read_transform
from covoxel.io.scratch import Scratch
from covoxel.spatial import Image
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
def open_evidence(files: CaseFiles, device: str, scratch: Path) -> Iterator[tuple[Image, Source]]:
    """The case's image, and what its atlases say, in the order of their ids, on `device`.

    Atlases are read one at a time. What is not small lies in a folder of `scratch` meanwhile, 17 bytes a voxel of the
    image and one or two a voxel of the label map for each atlas, which goes with the context, also after a failure.
    """
    fixed = read_image(files.fixed.path).to(device)
    with Scratch(scratch) as kept:
        yield fixed, in_memory(gather(fixed, _atlases(files, fixed), kept))


def _atlases(files: CaseFiles, fixed: Image) -> Iterator[Atlas]:
    for name in files.names:
        atlas = files.atlases[name]
        yield (
            read_image(atlas.image.path),
            read_labels(atlas.labels.path),
            read_transform(atlas.transform.path, fixed.grid),
        )
