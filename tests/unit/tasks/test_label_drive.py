"""Labels that drive a registration or taught its network: which are read, and that they do not score."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from covoxel.io import sha256_file, write_image, write_labels
from covoxel.preprocessing import canonical
from covoxel.registration import register as register_images
from covoxel.spatial import Grid, Image
from covoxel.training.registration.recipe import Recipe
from tasks import register as register_module
from tasks.evaluate import EvaluateJob, evaluate
from tasks.job import Artifact
from tasks.models import labels_that_taught, model_sha256, save_model
from tasks.recipe import build_network
from tasks.register import RegisterJob, register
from tasks.same_labels import content_of, same_labels
from tasks.settings import RegisterSettings

GRID = Grid((9, 8, 7), [[0, 2.0, 0, 1], [-1.5, 0, 0, 2], [0, 0, 2.5, 3], [0, 0, 0, 1]])


def labels(seed: int = 0) -> Image:
    return Image(torch.randint(0, 4, GRID.shape, generator=torch.Generator().manual_seed(seed)), GRID)


def test_label_maps_are_the_same_in_whatever_order_they_are_stored() -> None:
    first = labels()
    turned = canonical(first)
    assert turned.grid.shape != first.grid.shape
    assert same_labels(first, turned)
    assert not same_labels(first, Image(first.data, turned.grid.cropped([0, 0, 0], GRID.shape)))


def test_one_voxel_or_a_shift_makes_another_label_map() -> None:
    first = labels()
    other = first.data.clone()
    other[4, 4, 4] = 9
    assert not same_labels(first, Image(other, GRID))
    assert not same_labels(first, Image(first.data, GRID.cropped([1, 0, 0], GRID.shape)))
    matrix = GRID.ras_from_voxel.copy()
    matrix[:3] += 1e-4
    rounded = Grid(GRID.shape, matrix)
    assert same_labels(first, Image(first.data, rounded))


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str, Image], Artifact]:
    """Write a label map or an image."""

    def write(name: str, image: Image) -> Artifact:
        path = tmp_path / "files" / f"{name}.nii.gz"
        (write_image if image.data.is_floating_point() else write_labels)(path, image)
        return Artifact(path, sha256_file(path))

    return write


File = Callable[[str, Image], Artifact]


def test_labels_that_drove_the_warps_do_not_score_them(file: File, tmp_path: Path) -> None:
    truth = file("truth", labels())
    copied = file("copied", canonical(labels()))
    assert copied.sha256 != truth.sha256
    job = EvaluateJob("c1", tmp_path, "cpu", segmentation=file("found", labels(1)), truth=truth, driving=copied)
    with pytest.raises(ValueError, match=r"^its true label drove its registration and cannot score it$"):
        evaluate.fn(job)
    assert job.done() is None


@pytest.mark.parametrize("driven", [False, True])
def test_predicted_labels_that_drove_the_warps_leave_the_truth_to_score(
    driven: bool, file: File, tmp_path: Path
) -> None:
    driving = file("predicted", labels(2)) if driven else None
    found = file("found", labels(1))
    job = EvaluateJob("c1", tmp_path, "cpu", segmentation=found, truth=file("truth", labels()), driving=driving)
    assert set(evaluate.fn(job).facts["dice"]) == {"1", "2", "3"}
    assert ("driving" in job.inputs()) is driven


def test_labels_that_taught_the_network_do_not_score_it(file: File, tmp_path: Path) -> None:
    recipe = Recipe("tiny", "A test.", "voxelmorph-1", 1, network_settings={"encoder": [4], "decoder": [4], "half": 4})
    maps = [content_of(canonical(labels())), content_of(labels(7))]
    save_model(tmp_path / "model", build_network(recipe, 3), recipe, taught_by=maps)
    found = file("found", labels(1))
    seen, new = (
        EvaluateJob(
            "c1", tmp_path, "cpu", found, file(name, labels(seed)), None, labels_that_taught(tmp_path / "model")
        )
        for name, seed in (("seen", 0), ("new", 3))
    )
    with pytest.raises(ValueError, match=r"^its true label trained the network that registered it and cannot score"):
        evaluate.fn(seen)
    assert set(evaluate.fn(new).facts["dice"]) == {"1", "2", "3"}
    assert replace(new, taught_by=new.taught_by[1:]).fingerprint() != new.fingerprint()


def test_what_labels_taught_a_network_does_not_change_what_it_says(tmp_path: Path) -> None:
    recipe = Recipe("tiny", "A test.", "voxelmorph-1", 1, network_settings={"encoder": [4], "decoder": [4], "half": 4})
    for name, maps in (("one", [content_of(labels())]), ("none", [])):
        save_model(tmp_path / name, build_network(recipe, 3), recipe, taught_by=maps)
    assert model_sha256(tmp_path / "one") == model_sha256(tmp_path / "none")
    assert labels_that_taught(tmp_path / "none") == ()


@pytest.fixture
def job(file: File, tmp_path: Path) -> RegisterJob:
    """A job whose network says nothing, with a predicted label map of the case."""
    recipe = Recipe("tiny", "A test.", "voxelmorph-1", 1, network_settings={"encoder": [4], "decoder": [4], "half": 4})
    save_model(tmp_path / "model", build_network(recipe, 3), recipe)
    image = Image(torch.rand(GRID.shape, generator=torch.Generator().manual_seed(3)), GRID)
    return RegisterJob(
        "c1",
        tmp_path,
        "cpu",
        fixed=file("fixed", image),
        moving={"a2": file("two", image), "a1": file("one", image)},
        settings=RegisterSettings(engine="learned+svf", model=tmp_path / "model", labels=tmp_path),
        is_atlas=True,
        network=model_sha256(tmp_path / "model"),
        label_map=file("predicted", labels(5)),
        own_label_map=file("own", labels(6)),
        moving_labels={"a1": file("labels1", labels(1)), "a2": file("labels2", labels(2))},
    )


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the engine was given last."""
    seen: dict[str, Any] = {}

    def register_and_tell(*images: Any, **settings: Any) -> Any:
        seen.clear()
        seen.update(settings)
        return register_images(*images, **settings)

    monkeypatch.setattr(register_module, "register_images", register_and_tell)
    return seen


def test_the_label_map_of_the_case_and_those_of_the_atlases_drive(job: RegisterJob, given: dict[str, Any]) -> None:
    register.fn(job)
    assert given["drive"] == "labels"
    assert torch.equal(given["fixed_labels"].argmax(0), labels(5).data)
    first, second = given["moving_labels"]
    assert torch.equal(first.int().argmax(0), labels(1).data)
    assert torch.equal(second.int().argmax(0), labels(2).data)


def test_the_true_label_of_an_atlas_does_not_drive_its_own_registration(
    job: RegisterJob, given: dict[str, Any], file: File
) -> None:
    register.fn(replace(job, own_label_map=file("own", canonical(labels(5)))))
    assert "fixed_labels" not in given
    assert "drive" not in given
    register.fn(replace(job, label_map=None, own_label_map=None, moving_labels={}))
    assert "fixed_labels" not in given


def test_network_and_labels_are_inputs_by_content_and_their_folders_are_not(job: RegisterJob, file: File) -> None:
    moved = job.settings.model_copy(update={"model": Path("/elsewhere"), "labels": Path("/elsewhere")})
    known = job.fingerprint()
    assert replace(job, settings=moved).fingerprint() == known
    assert replace(job, network="0" * 64).fingerprint() != known
    assert replace(job, label_map=file("other", labels(7))).fingerprint() != known
    assert replace(job, label_map=None).fingerprint() != known
    other = {**job.moving_labels, "a1": file("labels3", labels(3))}
    assert replace(job, moving_labels=other).fingerprint() != known
    assert str(job.output) not in str(dict(job.parameters()))


def test_a_network_is_read_once_for_all_cases_and_anew_when_it_is_another(
    job: RegisterJob, given: dict[str, Any], tmp_path: Path
) -> None:
    register.fn(job)
    first = given["model"]
    register.fn(replace(job, case="c2"))
    assert given["model"] is first
    recipe = Recipe("tiny", "A test.", "voxelmorph-1", 1, network_settings={"encoder": [4], "decoder": [4], "half": 4})
    save_model(tmp_path / "model", build_network(replace(recipe, seed=9), 3), recipe)
    register.fn(replace(job, network=model_sha256(tmp_path / "model")))
    assert given["model"] is not first


def test_an_image_that_a_network_cannot_register_is_named(job: RegisterJob, monkeypatch: pytest.MonkeyPatch) -> None:
    from covoxel.registration import PairError

    def fails(*images: Any, **settings: Any) -> Any:
        raise PairError(1, "the network's displacement must be finite, got NaN or infinity")

    monkeypatch.setattr(register_module, "register_images", fails)
    with pytest.raises(ValueError, match="^a2 could not be brought onto the case: the network's displacement"):
        register.fn(job)
