"""Images in a larger matrix of one value or of noise, and affine parts that no anatomy has, from end to end."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from covoxel.io import read_image, read_labels, read_table, write_image, write_labels
from covoxel.manifest import Manifest
from covoxel.registration import register as register_images
from covoxel.spatial import Image
from tasks import register as register_module
from tasks.register import MOST_REMARKS, remarks_of

Invoke = Callable[..., tuple[int, str, str]]
MakeCohort = Callable[..., Path]

PAD = 12


def pad(file: Path, fill: float) -> None:
    """Put an image, or a label map, into a larger matrix."""
    is_labels = file.parent.name == "labels"
    image = (read_labels if is_labels else read_image)(file)
    data = torch.nn.functional.pad(image.data, [PAD] * 6, value=0 if is_labels else fill)
    shape = tuple(side + 2 * PAD for side in image.grid.shape)
    (write_labels if is_labels else write_image)(file, Image(data, image.grid.cropped((-PAD,) * 3, shape)))


@pytest.fixture
def run(invoke: Invoke, tmp_path: Path) -> Callable[..., Path]:
    """Run `few-shot` on a cohort, and give the output folder."""

    def run(cohort: Path, name: str, engine: str = "affine", atlases: str = "c1,c2,c3") -> Path:
        settings = tmp_path / "settings.yaml"
        settings.write_text(f"register: {{engine: {engine}}}\nfuse: {{rule: majority}}\n")
        output = tmp_path / name
        arguments = ("--atlases", atlases, "--output", output, "--settings", settings)
        code, text, problems = invoke("few-shot", "--cohort", cohort, *arguments)
        assert code == 0, text + problems
        return output

    return run


@pytest.mark.parametrize("fill", [0.0, -3000.0])
def test_a_padded_case_and_a_padded_atlas_give_the_labels_they_give_without(
    run: Callable[..., Path], make_cohort: MakeCohort, fill: float
) -> None:
    cohort = make_cohort(cases=4, labelled=3)
    plain = run(cohort, "plain")
    for file in ("images/c4.nii.gz", "images/c2.nii.gz", "labels/c2.nii.gz"):
        pad(cohort / file, fill)
    output = run(cohort, "padded")
    alone = read_labels(plain / "segmentations" / "c4.nii.gz").data
    found = read_labels(output / "segmentations" / "c4.nii.gz").data
    inside = tuple(slice(PAD, PAD + side) for side in alone.shape)
    assert bool(alone.any())
    assert torch.equal(found[inside], alone)
    assert int((found != 0).sum()) == int((alone != 0).sum())


def test_labels_in_a_border_are_kept(run: Callable[..., Path], make_cohort: MakeCohort) -> None:
    cohort = make_cohort(cases=4, labelled=3)
    for file in ("images/c2.nii.gz", "labels/c2.nii.gz"):
        pad(cohort / file, 0.0)
    labels = read_labels(cohort / "labels" / "c2.nii.gz")
    labels.data[2, 2, 2] = 3
    write_labels(cohort / "labels" / "c2.nii.gz", labels)
    record = Manifest(run(cohort, "out")).read("preprocess", "c2")
    assert record is not None
    assert record.facts["shape"] == list(labels.grid.shape)


def test_an_affine_part_that_no_anatomy_has_is_a_flag_and_its_atlas_does_not_vote(
    run: Callable[..., Path], make_cohort: MakeCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blown_up(*given: Any, **settings: Any) -> Any:
        found = register_images(*given, **settings)
        matrix = np.diag([0.3, 0.3, 0.3, 1.0])
        return [replace(t, moving_from_fixed=matrix) if place == 1 else t for place, t in enumerate(found)]

    monkeypatch.setattr(register_module, "register_images", blown_up)
    output = run(make_cohort(cases=5, labelled=4), "out", "identity", "c1,c2,c3,c4")
    flags = read_table(output / "cases.tsv").set_index("id").loc["c5", "flags"]
    assert "atlas c2: the affine part changes volumes by a factor of 0.027, which no anatomy does" in flags
    fused = Manifest(output).read("fuse", "c5")
    assert fused is not None
    assert set(fused.facts["rejected"]) == {"c2"}


def test_many_remarks_are_counted() -> None:
    each = {"folded_percent": 0.0, "remark": "the affine part mirrors, which no anatomy does"}
    facts = {"transforms": {f"a{number}": each for number in range(6)} | {"b": {"folded_percent": 0.0}}}
    found = remarks_of(facts)
    assert len(found) == MOST_REMARKS + 1
    assert found[0] == "atlas a0: the affine part mirrors, which no anatomy does"
    assert found[-1] == "and so for 3 more of 7 atlases"
    assert remarks_of({"transforms": {"a": {}}, "remark": "the affine part …"}) == ["template: the affine part …"]
