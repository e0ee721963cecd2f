"""Where everything lies in an output folder: the one place that knows its names."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Paths of an output folder; stable, documented, in the spirit of BIDS derivatives."""

    output: Path

    def preprocessed(self, case: str) -> Path:
        """Image of a case as the stages work on it."""
        return self.output / "work" / "preprocessed" / f"{case}.nii.gz"

    def without_ignore(self, case: str) -> Path:
        """Label map of an atlas, with background where it holds the value to ignore."""
        return self.output / "work" / "labels" / f"{case}.nii.gz"

    def preprocessed_labels(self, case: str) -> Path:
        """Label map of an atlas on the grid of its preprocessed image."""
        return self.output / "work" / "preprocessed_labels" / f"{case}.nii.gz"

    def transform(self, fixed: str, moving: str) -> Path:
        """ITK transform that resamples the image of `moving` onto `fixed`."""
        return self.output / "transforms" / f"{fixed}_from_{moving}_xfm.h5"

    @property
    def template(self) -> Path:
        """Mean of the atlases after affine alignment, by which atlases are chosen."""
        return self.output / "work" / "template" / "mean.nii.gz"

    def on_template(self, atlas: str) -> Path:
        """Image of an atlas as it lies on the template."""
        return self.output / "work" / "template" / "atlases" / f"{atlas}.nii.gz"

    def placement(self, group: str, step: int, case: str) -> Path:
        """Where a case lay on the template of a group in a step of its making."""
        return self._step(group, step) / "placements" / f"{case}.npz"

    def mean_image(self, group: str, step: int) -> Path:
        """Template of a group as a step left it."""
        return self._step(group, step) / "template.nii.gz"

    def mean_shape(self, group: str, step: int) -> Path:
        """What the step took out of the template's shape."""
        return self._step(group, step) / "shape.npz"

    def effect(self, group: str, step: int) -> Path:
        """How the template of a group follows covariates, as a step left it."""
        return self._step(group, step) / "effect.npz"

    def design(self, group: str, step: int) -> Path:
        """What the numbers of that effect mean."""
        return self._step(group, step) / "design.json"

    def _step(self, group: str, step: int) -> Path:
        return self.output / "work" / "atlas" / group / f"step-{step}"

    def atlas(self, name: str) -> Path:
        """A file of the template that was built: `template.nii.gz`, `history.tsv` …."""
        return self.output / "atlas" / name

    def conditional(self, name: str) -> Path:
        """A file of the template as a function of covariates."""
        return self.atlas("conditional") / name

    def label_probability(self, label: int) -> Path:
        """Probability of a label on the template that was built."""
        return self.atlas(f"label-{label}_probseg.nii.gz")

    def on_atlas(self, case: str) -> Path:
        """ITK transform that resamples the image of a case onto the template that was built."""
        return self.atlas("transforms") / f"template_from_{case}_xfm.h5"

    def from_atlas(self, case: str) -> Path:
        """ITK transform that resamples the template that was built onto a case."""
        return self.atlas("transforms") / f"{case}_from_template_xfm.h5"

    def segmentation(self, case: str) -> Path:
        """Label map of a case on its own grid."""
        return self.output / "segmentations" / f"{case}.nii.gz"

    def confidence(self, case: str) -> Path:
        """Voxelwise confidence, 0 to 1, of the label map."""
        return self.output / "segmentations" / f"{case}_confidence.nii.gz"

    def fused(self, case: str) -> Path:
        """Label map of a case that was fused, where another candidate may become its segmentation."""
        return self.output / "work" / "fused" / f"{case}.nii.gz"

    def fused_confidence(self, case: str) -> Path:
        """Voxelwise confidence, 0 to 1, of the fused label map."""
        return self.output / "work" / "fused" / f"{case}_confidence.nii.gz"

    def candidate(self, case: str, name: str) -> tuple[Path, Path]:
        """Label map of a case by a candidate in which networks have a part, and its voxelwise confidence, 0 to 1."""
        folder = self.output / "work" / "candidates" / name
        return folder / f"{case}.nii.gz", folder / f"{case}_confidence.nii.gz"

    def model(self, name: str) -> Path:
        """Folder of what was trained: weights and the settings that made them."""
        return self.output / "models" / name

    def nnunet(self, round_: int) -> Path:
        """Folder of nnU-Net's data set, plans and preprocessed cases, of one round of training."""
        return self.output / "work" / "nnunet" / f"round_{round_}"

    def nnunet_model(self, round_: int) -> Path:
        """Folder of the nnU-Net of a round, as nnU-Net's own tools take it."""
        return self.model(f"nnunet-round_{round_}")

    def relabelled(self, case: str) -> tuple[Path, Path]:
        """Label map of a case that teaches the second round of nnU-Net, and its voxelwise confidence, 0 to 1."""
        folder = self.output / "work" / "nnunet" / "labels"
        return folder / f"{case}.nii.gz", folder / f"{case}_confidence.nii.gz"

    def logs(self, name: str) -> Path:
        """Folder of a training's logs for TensorBoard."""
        return self.output / "logs" / name

    def alignment(self, case: str) -> Path:
        """ITK transform that resamples the image of a case onto the training's reference."""
        return self.output / "work" / "aligned" / f"{case}_xfm.h5"

    def checkpoint(self, fingerprint: str) -> Path:
        """State of a training that is going on, by what it is known by."""
        return self.output / "work" / "training" / f"{fingerprint[:16]}.pt"

    @property
    def scratch(self) -> Path:
        """Folder for what a job keeps on the disk while it runs."""
        return self.output / "work" / "scratch"

    def figure(self, case: str, name: str) -> Path:
        """Figure of a case, WebP."""
        return self.output / "work" / "figures" / f"{case}_{name}.webp"

    @property
    def cases_table(self) -> Path:
        """One row a case."""
        return self.output / "cases.tsv"

    @property
    def volumes_table(self) -> Path:
        """One row a case and structure."""
        return self.output / "volumes.tsv"

    @property
    def atlases_table(self) -> Path:
        """One row a case and atlas."""
        return self.output / "atlases.tsv"

    @property
    def metrics_table(self) -> Path:
        """One row a case and structure, where a true label is known."""
        return self.output / "metrics.tsv"

    def visit(self, case: str) -> Path:
        """Image of a visit as series are made of it: not cut off at its brightest."""
        return self.output / "work" / "longitudinal" / "visits" / f"{case}.nii.gz"

    def series(self, subject: str, name: str) -> Path:
        """A file of one subject: the template of the visits, transforms, label probabilities."""
        return self.output / "work" / "longitudinal" / "subjects" / subject / name

    def longitudinal(self, name: str) -> Path:
        """A table, figure or map of how things changed."""
        return self.output / "longitudinal" / name

    @property
    def description(self) -> Path:
        """What made the folder, as BIDS wants it."""
        return self.output / "dataset_description.json"

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.output / "report" / "index.html"

    @property
    def call(self) -> Path:
        """The last call, for `status`."""
        return self.output / ".covoxel" / "call.json"
