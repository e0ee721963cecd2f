"""Models of nnU-Net: its folder, and predictions that are its own predictor's to the voxel."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from covoxel.external.nnunet import (
    MemoryLimitError,
    NnunetError,
    PredictionCase,
    Predictor,
    TrainedModel,
    predict_files,
    read_model,
    write_model,
)
from covoxel.external.nnunet.predict import _settled
from covoxel.io import write_image
from covoxel.segmentation import Segmented
from covoxel.spatial import Grid, Image
from tests.conftest import oriented_grid
from tests.unit.external.conftest import SHAPE, Tiny, balls, files_of


@pytest.fixture(scope="module")
def model(tiny: Tiny) -> TrainedModel:
    return TrainedModel.of(tiny.plan, [tiny.model])


def of_nnunet(folder: Path, image: Image, folds: int) -> np.ndarray:
    """What nnU-Net's own predictor says, of a file as it reads it."""
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans, content = (json.loads((folder / name).read_text()) for name in ("plans.json", "dataset.json"))
    manager = PlansManager(plans)
    files = [folder / f"fold_{fold}" / "checkpoint_final.pth" for fold in range(folds)]
    found = [torch.load(file, weights_only=True) for file in files]
    own = manager.get_configuration(found[0]["init_args"]["configuration"])
    network = nnUNetTrainer.build_network_architecture(manager, own, 1, 3, False)
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    weights, axes = [each["network_weights"] for each in found], found[0]["inference_allowed_mirroring_axes"]
    predictor.manual_initialization(network, manager, own, weights, content, found[0]["trainer_name"], axes)
    write_image(folder / "image.nii.gz", image)
    array, properties = SimpleITKIO().read_images([str(folder / "image.nii.gz")])
    return predictor.predict_single_npy_array(array, {"spacing": properties["spacing"]})


def undecided(name: str, value: torch.Tensor) -> torch.Tensor:
    """Weights of a network for which no label wins everywhere, as background does after a few steps."""
    if "seg_layers" not in name:
        return value + 0.05 * torch.randn(value.shape)
    drawn = torch.randn(value.shape)
    return drawn - drawn.mean(1, keepdim=True) if drawn.ndim > 1 else torch.zeros(value.shape)


@pytest.mark.parametrize(("spacing", "shape"), [(1.0, SHAPE), (1.3, (23, 17, 19))])
def test_label_maps_are_nnunets_own(tiny: Tiny, tmp_path: Path, spacing: float, shape: tuple[int, ...]) -> None:
    for fold in (0, 1):
        moved = {name: undecided(name, value) for name, value in tiny.model.weights.items()}
        write_model(tmp_path, tiny.plan, [replace(tiny.model, fold=fold, weights=moved)])
    model = read_model(tmp_path)
    assert model.folds == (0, 1)
    image, _ = balls(9, Grid.from_spacing(shape, spacing))
    wanted = of_nnunet(tmp_path, image, folds=2)
    found = Predictor(model).predict(image)
    assert found.grid is image.grid
    np.testing.assert_array_equal(found.label_map.numpy(), np.array([0, 3, 7])[wanted.transpose(2, 1, 0)])
    assert len(np.unique(wanted)) > 1
    torch.testing.assert_close(found.probabilities.sum(0), torch.ones(shape))
    assert found.spread > 0


def test_an_image_of_another_orientation_gets_the_same_labels_on_its_own_grid(model: TrainedModel) -> None:
    grid = oriented_grid("RAS", SHAPE)
    image, _ = balls(9, grid)
    matrix = grid.ras_from_voxel @ np.array([[0, -1, 0, SHAPE[0] - 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    turned = Image(image.data.flip(0).transpose(0, 1), Grid((SHAPE[1], SHAPE[0], SHAPE[2]), matrix))
    predictor = Predictor(model)
    found, wanted = predictor.predict(turned), predictor.predict(image)
    assert torch.equal(found.label_map, wanted.label_map.flip(0).transpose(0, 1))
    assert predictor.loads == 1


def test_near_ties_go_where_nnunet_decides() -> None:
    probabilities = np.array([[0.5, 0.5, 0.2], [0.5, 0.499999, 0.8]], np.float32).reshape(2, 3, 1, 1)
    labels = np.array([1, 1, 1]).reshape(3, 1, 1)
    said = torch.from_numpy(_settled(probabilities.copy(), labels))
    found = Segmented(Grid.from_spacing((3, 1, 1)), torch.tensor([0, 4]), said, 0.0)
    assert found.label_map.flatten().tolist() == [4, 4, 4]
    torch.testing.assert_close(said.sum(0), torch.ones(3, 1, 1))
    assert np.abs(said.numpy() - probabilities).max() < 3e-5


def test_a_checkpoint_with_what_nnunet_logs_is_read_and_code_in_one_is_not_run(tiny: Tiny, tmp_path: Path) -> None:
    write_model(tmp_path, tiny.plan, [tiny.model])
    path = tmp_path / "fold_0" / "checkpoint_final.pth"
    state = torch.load(path, weights_only=True)
    state["_best_ema"], state["logging"]["lrs"] = np.float64(0.5), [np.float32(1), np.float64(2)]
    state["init_args"]["device"] = torch.device("cuda")
    torch.save(state, path)
    assert read_model(tmp_path).mirroring == (0, 1, 2)
    state["logging"] = Path("x")
    torch.save(state, path)
    with pytest.raises(NnunetError, match="is no checkpoint of nnU-Net"):
        read_model(tmp_path)


def test_a_folder_that_is_no_model_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    write_model(tmp_path / "model", tiny.plan, [tiny.model])
    other = {**tiny.plan.plans, "plans_name": "others"}
    with pytest.raises(NnunetError, match="holds a model of other plans"):
        write_model(tmp_path / "model", replace(tiny.plan, plans=other), [tiny.model])
    plans = json.loads((tmp_path / "model" / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["features_per_stage"] = [8, 8, 8]
    shutil.copytree(tmp_path / "model", tmp_path / "foreign")
    (tmp_path / "foreign" / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(NnunetError, match="fold 0 of .*foreign is not of its plans: .* must be"):
        read_model(tmp_path / "foreign")
    with pytest.raises(NnunetError, match="fold_4/checkpoint_final.pth does not exist"):
        read_model(tmp_path / "model", [4])
    shutil.rmtree(tmp_path / "model" / "fold_0")
    with pytest.raises(NnunetError, match="model has no checkpoint"):
        read_model(tmp_path / "model")


def test_an_image_that_the_model_cannot_take_is_refused(model: TrainedModel) -> None:
    predictor = Predictor(model, memory=10**9)
    image, _ = balls(0, Grid.from_spacing(SHAPE))
    with pytest.raises(NnunetError, match="must have the 1 channels of the model, got 2"):
        predictor.predict([image, image])
    with pytest.raises(NnunetError, match="is of 3-D images, got one of 2 axes"):
        predictor.predict(balls(0, Grid.from_spacing(SHAPE[:2]))[0])
    with pytest.raises(NnunetError, match="must have finite intensities"):
        predictor.predict(Image(torch.full(SHAPE, torch.nan), image.grid))
    with pytest.raises(NnunetError, match="must not be zero everywhere"):
        predictor.predict(Image(torch.zeros(SHAPE), image.grid))
    big = Grid.from_spacing((500, 500, 500))
    with pytest.raises(MemoryLimitError, match=r"\(500, 500, 500\) voxels .* to predict, and .*1000000000 bytes"):
        predictor.predict(Image(torch.ones(1).expand(big.shape), big))


def test_a_cohort_goes_on_where_it_was_cut_off_and_past_a_bad_case(model: TrainedModel, tmp_path: Path) -> None:
    cases = [PredictionCase(f"case{seed}", files_of(tmp_path, seed).images) for seed in range(3)]
    cases[1].images[0].write_bytes(b"nothing")
    predictor = Predictor(model)
    cut = predict_files(predictor, cases, tmp_path / "said")
    next(cut)
    cut.close()
    assert sorted(path.name for path in (tmp_path / "said").glob("*.nii.gz")) == [
        "case0.nii.gz",
        "case0_confidence.nii.gz",
    ]
    again = {found.id: found for found in predict_files(predictor, cases, tmp_path / "said")}
    assert again["case0"].segmented is None
    assert again["case0"].problem is None
    assert str(cases[1].images[0]) in (again["case1"].problem or "")
    assert again["case2"].segmented is not None
    assert predictor.loads == 1
