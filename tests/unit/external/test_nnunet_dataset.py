"""Data sets of nnU-Net: what is written is read again, by us and by nnU-Net, and bad cases are left out."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from covoxel.external.nnunet import (
    DatasetCase,
    MissingLibraryError,
    NnunetError,
    Weighting,
    plan,
    read_dataset,
    write_dataset,
)
from covoxel.external.nnunet.axes import spacing_of, stacked
from covoxel.io import read_image, read_labels, write_image
from covoxel.spatial import Grid, Image
from tests.conftest import oriented_grid
from tests.unit.external.conftest import NAMES, SHAPE, TINY, balls, files_of


def test_what_is_written_is_read_again_and_values_are_mapped_and_back(tmp_path: Path) -> None:
    cases = [replace(files_of(tmp_path, 0), weight=0.5), files_of(tmp_path, 1, fused=True)]
    cases.append(DatasetCase("unlabelled", cases[0].images, None))
    dataset = write_dataset(tmp_path / "Dataset012_Balls", cases, names={**NAMES, 9: "nobody's"})
    assert read_dataset(dataset.folder) == dataset
    assert dataset.values == (0, 3, 7)
    assert [(case.id, case.weight, case.is_fused) for case in dataset.training] == [
        ("case0", 0.5, False),
        ("case1", 1.0, True),
    ]
    label = dataset.training[0].label
    assert label is not None
    places, source = read_labels(label).data, read_labels(tmp_path / "case0_labels.nii.gz").data
    assert torch.equal(torch.tensor(dataset.values)[places], source)
    content = json.loads((dataset.folder / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "shell": 1, "core": 2}
    assert content["numTraining"] == 2


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "oblique"])
def test_nnunets_own_reader_sees_the_same_voxels_and_spacing(tmp_path: Path, orientation: str) -> None:
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    case = files_of(tmp_path, 0, grid=oriented_grid(orientation, SHAPE))
    dataset = write_dataset(tmp_path / "Dataset001_X", [case], names=NAMES)
    path = dataset.cases[0].images[0]
    array, properties = SimpleITKIO().read_images([str(path)])
    image = read_image(path)
    np.testing.assert_array_equal(array, stacked([image]))
    np.testing.assert_allclose(properties["spacing"], spacing_of(image.grid), rtol=1e-5)
    linear = image.grid.ras_from_voxel[:3, :3]
    assert (np.diag(linear) > 0).all(), "axes are nearest to RAS"


def test_a_bad_case_is_left_out_with_a_sentence_and_the_others_go_on(tmp_path: Path) -> None:
    good = files_of(tmp_path, 0)
    other = files_of(tmp_path, 1, grid=Grid.from_spacing(SHAPE, 2.0))
    infinite = files_of(tmp_path, 2)
    image, _ = balls(2, Grid.from_spacing(SHAPE))
    write_image(infinite.images[0], Image(image.data.index_fill(0, torch.tensor([1]), torch.nan), image.grid))
    flat = files_of(tmp_path, 3, grid=Grid.from_spacing(SHAPE[:2]))
    cases = [
        good,
        replace(other, images=good.images),
        infinite,
        flat,
        replace(good, id="two", images=(*good.images, *good.images)),
        replace(good, id="gone", images=(tmp_path / "gone.nii.gz",)),
    ]
    dataset = write_dataset(tmp_path / "Dataset001_X", cases, names=NAMES)
    assert [case.id for case in dataset.cases] == ["case0"]
    assert {case: words for case, words in dataset.failed.items() if case != "case1"} == {
        "case2": f"{infinite.images[0]} must have finite intensities only",
        "case3": f"{flat.images[0]} has 2 axes, most of the data set have 3",
        "two": "two has 2 channels, it must have 1, as the data set",
        "gone": f"{tmp_path / 'gone.nii.gz'} does not exist; an image must be a file",
    }
    assert "must lie on the grid of" in dataset.failed["case1"]


def test_what_cannot_be_a_data_set_is_refused(tmp_path: Path) -> None:
    case = files_of(tmp_path, 0)
    with pytest.raises(NnunetError, match="has the label 7, which has no name"):
        write_dataset(tmp_path / "Dataset001_X", [case], names={3: "shell"})
    with pytest.raises(NnunetError, match="must have a case with labels"):
        write_dataset(tmp_path / "Dataset001_X", [replace(case, label=None)], names=NAMES)
    with pytest.raises(NnunetError, match="must be named DatasetNNN_Name"):
        write_dataset(tmp_path / "balls", [case], names=NAMES)
    with pytest.raises(NnunetError, match="'case0' twice"):
        write_dataset(tmp_path / "Dataset001_X", [case, case], names=NAMES)
    with pytest.raises(NnunetError, match=r"dataset.json must be a JSON file of nnU-Net"):
        read_dataset(tmp_path)


def test_a_data_set_of_others_is_read_and_a_missing_channel_is_told(tmp_path: Path) -> None:
    cases = [replace(files_of(tmp_path, seed), images=(tmp_path / f"case{seed}.nii.gz",) * 2) for seed in (0, 1)]
    folder = write_dataset(tmp_path / "Dataset001_X", cases, names=NAMES, channels=("T1", "T2")).folder
    content = json.loads((folder / "dataset.json").read_text())
    del content["covoxel"]
    (folder / "dataset.json").write_text(json.dumps(content))
    gone = folder / "imagesTr" / "case1_0001.nii.gz"
    gone.unlink()
    dataset = read_dataset(folder)
    assert (dataset.values, dataset.channels, dataset.canonical) == ((0, 1, 2), ("T1", "T2"), False)
    assert dict(dataset.failed) == {
        "case1": f"{gone} does not exist; a case must have all its channels, and its label map to train"
    }


def test_voxels_of_little_confidence_are_written_as_nnunets_ignore_label(tmp_path: Path) -> None:
    case = files_of(tmp_path, 0, fused=True)
    dataset = write_dataset(tmp_path / "Dataset001_X", [case], names=NAMES, ignore_below=0.6)
    label = dataset.cases[0].label
    assert label is not None
    assert dataset.ignore == 3
    assert set(torch.unique(read_labels(label).data).tolist()) == {0, 3}, "all structures had a confidence of 0.5"
    assert json.loads((dataset.folder / "dataset.json").read_text())["labels"]["ignore"] == 3


def test_nnunet_is_imported_when_it_is_needed_and_its_absence_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys, covoxel.external.nnunet; sys.exit(any(m.startswith('nnunetv2') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    dataset = write_dataset(tmp_path / "Dataset001_X", [files_of(tmp_path, 0)], names=NAMES)
    monkeypatch.setitem(sys.modules, "nnunetv2", None)
    with pytest.raises(MissingLibraryError, match=r"covoxel\[nnunet\]"):
        plan(dataset, tmp_path / "work", TINY)


def test_a_weighting_says_what_it_wants() -> None:
    with pytest.raises(ValueError, match="power must be finite and not negative, got -1"):
        Weighting(power=-1)
    with pytest.raises(ValueError, match="hand_share must be from 0 to 1, got 2"):
        Weighting(hand_share=2)
