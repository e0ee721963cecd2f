"""Label template: labels lie where the border is, wherever an image's percentiles would have cut it off."""

from pathlib import Path

import numpy as np
import torch

from covoxel.io import read_image, sha256_file, write_image, write_labels
from covoxel.longitudinal.intensity import scaled
from covoxel.spatial import Grid, Image
from tasks.job import Artifact
from tasks.label_template import AtlasSource, LabelTemplateJob, label_template, probability_path
from tasks.settings import RegisterSettings

RADIUS = 4.0


def brain(side: int, seed: int) -> tuple[Image, Image]:
    """A small bright disc, one percent of a large head, seen as far as `side` millimetres go; and its label."""
    grid = Grid.from_spacing((side, side), 1.0)
    points = grid.to_ras(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))
    away = np.linalg.norm(points, axis=-1)
    values = 0.5 / (1 + np.exp((away - 38) / 0.7)) + 0.5 / (1 + np.exp((away - RADIUS) / 0.7))
    values = values + 0.1 * np.sin(points[..., 0] / 4) * np.cos(points[..., 1] / 5) * (away < 36)
    values = values + np.random.default_rng(seed).normal(0, 0.01, grid.shape)
    return scaled(Image(torch.tensor(values, dtype=torch.float32), grid)), Image(
        torch.tensor((away < RADIUS).astype(np.int64)), grid
    )


def written(path: Path, image: Image, labels: bool = False) -> Artifact:
    (write_labels if labels else write_image)(path, image)
    return Artifact(path, sha256_file(path))


def test_labels_of_a_small_bright_structure_are_not_too_large(tmp_path: Path) -> None:
    template, _ = brain(84, seed=0)
    image, labels = brain(36, seed=1)  # hardly anything but the disc: its percentiles are others
    atlas = AtlasSource(
        written(tmp_path / "in" / "a.nii.gz", image), written(tmp_path / "in" / "a_dseg.nii.gz", labels, labels=True)
    )
    job = LabelTemplateJob(
        "s1",
        tmp_path / "out",
        "cpu",
        template=written(tmp_path / "in" / "template.nii.gz", template),
        atlases={"a": atlas},
        engine=RegisterSettings(engine="svf"),
    )
    label_template.fn(job)
    found = read_image(probability_path(job.layout.series("s1", "labels"), 1))
    # Four voxels' radius are few for any registration; cut off at the 99th percentile it is twice as large.
    assert float(found.data.sum()) < 1.4 * np.pi * RADIUS**2
