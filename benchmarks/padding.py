"""Images in a larger matrix of one value or of noise, and how far they register as the same images without it.

Hippocampus crops of the cases without a role in any score. Each is padded, as the fixed and as the moving image.
Run from the project's root: python -m benchmarks.padding --cases 3 --output padding.tsv
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import common
from benchmarks.common import Bar
from benchmarks.measure import Stopwatch, say, use_threads
from covoxel.fusion.base import smallest_winner
from covoxel.io import read_image, read_labels
from covoxel.metrics import dice
from covoxel.preprocessing import canonical, preprocess
from covoxel.registration import register
from covoxel.spatial import Image, Transform, resample_probabilities

STRUCTURES = [1, 2]
PADS = (10, 20, 30, 60)
CONSTANTS = {"0": 0.0, "-1024": -1024.0, "-3000": -3000.0}
NOISES = {"noise": 1.0, "loud noise": 5.0}
NOTES = (
    "padded: which image, by how many voxels a side, of what; noise has the mean and the spread of the image's own",
    "  intensities, loud noise five times the spread.",
    "dice: mean over structures and pairs; change: largest difference of a pair to itself without padding.",
    "off_mm: largest mean distance from the truth, where a case is registered to itself with 5 % noise: the identity.",
    "remarks: pairs whose affine part was refused.",
)


@dataclass(frozen=True)
class Subject:
    """Image and label map of one case, on one grid."""

    image: Image
    labels: Image


@dataclass
class Row:
    """What was found of one kind of padding."""

    dice: list[float] = field(default_factory=list)
    change: list[float] = field(default_factory=list)
    off_mm: list[float] = field(default_factory=list)
    remarks: int = 0
    seconds: float = 0.0

    def table(self, names: dict[str, object]) -> dict[str, object]:
        """The row of the table."""
        worst = {"change": max(np.abs(self.change)), "off_mm": max(self.off_mm)}
        cost = {"remarks": self.remarks, "seconds": self.seconds / len(self.dice), "pairs": len(self.dice)}
        return {**names, "dice": np.mean(self.dice), **worst, **cost}


def padded(image: Image, pad: int, what: str, rng: np.random.Generator) -> Image:
    """The image in a larger matrix."""
    data = image.data.numpy().astype(np.float64)
    shape = tuple(side + 2 * pad for side in data.shape)
    if what in CONSTANTS:
        whole = np.full(shape, CONSTANTS[what])
    else:
        whole = rng.normal(data.mean(), NOISES[what] * data.std(), shape)
    whole[tuple(slice(pad, pad + side) for side in data.shape)] = data
    return Image(torch.from_numpy(whole), image.grid.cropped((-pad,) * image.grid.ndim, shape))


def score(subject: Subject, atlas: Subject, fixed: Image, transform: Transform) -> float:
    """Mean Dice of the atlas' labels on the grid of the fixed image, within the subject's own field of view."""
    values = torch.tensor([0, *STRUCTURES])
    found = smallest_winner(resample_probabilities(atlas.labels, values, fixed.grid, transform))
    pad = (fixed.grid.shape[0] - subject.labels.grid.shape[0]) // 2
    truth = torch.nn.functional.pad(subject.labels.data, [pad] * 6)
    return float(np.mean(list(dice(found, truth, STRUCTURES).values())))


def off_mm(transform: Transform, points: NDArray[np.float64]) -> float:
    """Mean distance from the identity."""
    return float(np.linalg.norm(transform.map(points) - points, axis=1).mean())


def compare(
    engine: str, role: str, pad: int, what: str, pairs: Sequence[tuple[Subject, Subject]], alone: list[float], seed: int
) -> Row:
    """One kind of padding, all pairs; `alone` are their Dice without padding, and are filled if empty."""
    row, rng = Row(), np.random.default_rng(seed)
    for index, (subject, atlas) in enumerate(pairs):
        images = {"fixed": subject.image, "moving": atlas.image, "self": _noisy(subject.image, rng)}
        own = "self" if role == "moving" else "fixed"
        changed = dict(images)
        for name in {role, own} if pad else ():
            changed[name] = padded(images[name], pad, what, rng)
        fixed, *moving = (preprocess(changed[name]) for name in ("fixed", "moving", "self"))
        with Stopwatch() as watch:
            found, still = register(engine, fixed, moving)
        row.dice.append(score(subject, atlas, fixed, found))
        if not pad:
            alone.append(row.dice[-1])
        row.change.append(row.dice[-1] - alone[index])
        inner = rng.uniform(5, np.asarray(subject.image.grid.shape) - 6, (300, 3))
        row.off_mm.append(off_mm(still, subject.image.grid.to_ras(inner)))
        row.remarks += sum(bool(each.remark) for each in (found, still))
        row.seconds += watch.seconds
    return row


def _noisy(image: Image, rng: np.random.Generator) -> Image:
    data = image.data.double()
    return Image(data + float(data.std()) * 0.05 * torch.from_numpy(rng.normal(size=data.shape)), image.grid)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=3, help="of those without a label (default 3)")
    parser.add_argument("--engines", nargs="+", default=["affine", "svf"])
    parser.add_argument("--pads", nargs="+", type=int, default=list(PADS), help="voxels a side (default 10 20 30 60)")
    parser.add_argument("--kinds", nargs="+", default=[*CONSTANTS, *NOISES], choices=[*CONSTANTS, *NOISES])
    options = common.arguments(parser, argv)
    use_threads(1)
    torch.set_num_threads(1)
    common.describe_run(seed=options.seed, processes=1, threads=1)
    source = common.data_folder("hippocampus")
    split = json.loads((source / "split.json").read_text(encoding="utf-8"))

    def subject(case: str) -> Subject:
        image = canonical(read_image(source / "images" / f"{case}.nii.gz"))
        return Subject(image, canonical(read_labels(source / "labels" / f"{case}.nii.gz")))

    pairs = [
        (subject(case), subject(atlas))
        for case, atlas in zip(split["unlabelled"][: options.cases], split["atlases"], strict=False)
    ]
    rows = []
    for engine in options.engines:
        alone: list[float] = []
        kinds = [("fixed", 0, "")] + [
            (r, p, k) for r in ("fixed", "moving") for p in options.pads for k in options.kinds
        ]
        for role, pad, what in kinds:
            row = compare(engine, role, pad, what, pairs, alone, options.seed)
            names = {"engine": engine, "padded": role if pad else "-", "voxels": pad, "of": what or "-"}
            rows.append(row.table(names))
            say("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items()))
    worst = [max(float(str(row[name])) for row in rows) for name in ("change", "off_mm")]
    bars = [
        Bar("largest change of Dice by padding", worst[0], 0.01, False),
        Bar("largest distance from the identity, mm", worst[1], 2.0, False),
    ]
    common.finish(rows, bars, options.output, NOTES)


if __name__ == "__main__":
    main()
