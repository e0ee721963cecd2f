"""The hippocampus set for nnU-Net: cases with labels by hand, and cases with labels that were fused."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import ROOT
from benchmarks.few_shot_cohort import Roles, write_cohort
from covoxel.external.nnunet import DatasetCase
from tasks.layout import Layout

ALONE, FUSED, CEILING = "alone", "fused", "ceiling"
ROWS = (ALONE, FUSED, CEILING)
_DONE = (0, 3)


@dataclass(frozen=True)
class Hippocampus:
    """Who has which label.

    Parameters
    ----------
    source
        Folder with `images/` and `labels/`.
    atlases
        Those whose labels are known.
    more
        Other atlases, which only the ceiling may see.
    unlabelled
        Those whose labels only the ceiling may see.
    fused
        Folder of a finished run of `few-shot`, if there is one.
    """

    source: Path
    atlases: tuple[str, ...]
    more: tuple[str, ...]
    unlabelled: tuple[str, ...]
    fused: Path | None

    def cases(self, row: str, work: Path) -> list[DatasetCase]:
        """Cases that a row trains on."""
        hand = [self._labelled(case) for case in self.atlases]
        if row == ALONE:
            return hand
        if row == CEILING:
            return hand + [self._labelled(case) for case in (*self.more, *self.unlabelled)]
        layout = Layout(self.fused or run_fusion(self, work))
        return hand + [self._fused(case, layout) for case in self.unlabelled]

    def image(self, case: str) -> Path:
        """Image of a case."""
        return self.source / "images" / f"{case}.nii.gz"

    def _labelled(self, case: str) -> DatasetCase:
        return DatasetCase(case, (self.image(case),), self.source / "labels" / f"{case}.nii.gz")

    def _fused(self, case: str, layout: Layout) -> DatasetCase:
        pairs = [
            (layout.fused(case), layout.fused_confidence(case)),
            (layout.segmentation(case), layout.confidence(case)),
        ]
        found = next((pair for pair in pairs if all(path.is_file() for path in pair)), None)
        if found is None:
            raise SystemExit(f"{layout.output} must have a fused label map of {case} with its confidence")
        return DatasetCase(case, (self.image(case),), found[0], found[1])


def run_fusion(data: Hippocampus, work: Path) -> Path:
    """Fuse labels of the unlabelled cases by `few-shot --correct`; what is there is not done again."""
    folder = (work / "fusion").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    table = write_cohort(folder, data.source, Roles(data.atlases, data.unlabelled, ()))
    command: Sequence[str] = (
        *(sys.executable, "-m", "flows", "few-shot", "--segmenter", "fusion", "--correct"),
        *("--cohort", str(table), "--atlases", ",".join(data.atlases), "--output", str(folder / "run")),
    )
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode not in _DONE:
        raise SystemExit(f"few-shot ended with status {done.returncode}")
    return folder / "run"
