"""Model folders: what is saved comes back to the bit, and nothing that is wrong with a folder is believed."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from covoxel.io import sha256_file
from covoxel.training.registration.recipe import Recipe
from nets.registration import RegistrationNet
from tasks.models import FACTS, RECIPE, WEIGHTS, ModelError, load_model, model_sha256, save_model
from tasks.recipe import build_network

TINY = {"encoder": [4, 6], "decoder": [6, 4], "half": 4, "last": [4], "head": "stationary"}
TAUGHT = Recipe("tiny", "A test.", "voxelmorph-1", 3, network_settings=TINY, alignment="affine", seed=5)


@pytest.fixture
def network() -> RegistrationNet:
    """A network that says something."""
    made = build_network(TAUGHT, 3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    return made.eval()


@pytest.fixture
def folder(network: RegistrationNet, tmp_path: Path) -> Path:
    path = tmp_path / "models" / "tiny"
    save_model(path, network, TAUGHT, spacing_mm=(1.0, 1.2, 2.0), trained={"steps": 3, "cases": 4})
    return path


def pair() -> tuple[Tensor, Tensor]:
    fixed, moving = torch.rand(2, 2, 1, 13, 11, 9, generator=torch.Generator().manual_seed(1))
    return fixed, moving


def test_what_is_saved_comes_back_to_the_bit(folder: Path, network: RegistrationNet) -> None:
    model = load_model(folder, "cpu")
    with torch.no_grad():
        said = network(*pair()).displacement_vox
    found = model.displacement(*pair())
    assert said.abs().max() > 0.01
    assert torch.equal(found, said)
    assert not found.requires_grad
    assert (model.alignment, model.spacing_mm, model.smallest_side) == ("affine", (1.0, 1.2, 2.0), 1)
    assert 10 < model.bytes_per_voxel < 200
    assert model.displacement(*(image[..., :1, :1, :1] for image in pair())).shape == (2, 3, 1, 1, 1)


def test_the_folder_says_what_it_is(folder: Path) -> None:
    facts = json.loads((folder / FACTS).read_text())
    assert facts["format"] == "covoxel registration model 1"
    assert facts["weights_sha256"] == sha256_file(folder / WEIGHTS)
    assert facts["trained"] == {"steps": 3, "cases": 4}
    assert yaml.safe_load((folder / RECIPE).read_text())["network_settings"] == TINY


def test_saving_leaves_the_network_as_it_was(network: RegistrationNet, tmp_path: Path) -> None:
    network.train()
    save_model(tmp_path, network, TAUGHT)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert load_model(tmp_path, "cpu").spacing_mm is None


def test_a_network_of_another_kind_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="network must be a RegistrationNet, got a Linear"):
        save_model(tmp_path, nn.Linear(1, 1), TAUGHT)
    assert not list(tmp_path.iterdir())


def test_a_model_is_known_by_what_it_says_and_not_by_its_training(
    folder: Path, network: RegistrationNet, tmp_path: Path
) -> None:
    known = model_sha256(folder)
    save_model(
        tmp_path / "again", network, replace(TAUGHT, steps=9), spacing_mm=(1.0, 1.2, 2.0), trained={"seconds": 8}
    )
    assert model_sha256(tmp_path / "again") == known
    save_model(tmp_path / "other", network, TAUGHT, spacing_mm=(1.0, 1.2, 2.5))
    assert model_sha256(tmp_path / "other") != known
    with torch.no_grad():
        next(network.parameters())[0] += 1
    save_model(tmp_path / "trained more", network, TAUGHT, spacing_mm=(1.0, 1.2, 2.0))
    assert model_sha256(tmp_path / "trained more") != known


Spoil = Callable[[Path], None]


def facts(**changes: object) -> Spoil:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / FACTS).read_text())
        (folder / FACTS).write_text(
            json.dumps({key: value for key, value in (content | changes).items() if value != ()})
        )

    return spoil


def recipe(**changes: object) -> Spoil:
    def spoil(folder: Path) -> None:
        content = yaml.safe_load((folder / RECIPE).read_text())
        (folder / RECIPE).write_text(yaml.safe_dump(content | changes))

    return spoil


def weights(change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Spoil:
    """Other weights, and the hash that goes with them."""

    def spoil(folder: Path) -> None:
        save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)
        facts(weights_sha256=sha256_file(folder / WEIGHTS))(folder)

    return spoil


def first(change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda found: found | {min(found): change(found[min(found)]).contiguous()}


def no_safetensors(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"\x80\x04pickle" * 9)
    facts(weights_sha256=sha256_file(folder / WEIGHTS))(folder)


def cut(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-8])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: folder.rename(folder.with_name("gone")), "there is no such folder"),
        (lambda folder: (folder / FACTS).unlink(), "model.json cannot be read: No such file"),
        (lambda folder: (folder / FACTS).write_text("{"), "model.json: the file is no JSON mapping"),
        (
            lambda folder: (folder / FACTS).write_text("[" * 20_000_001),
            "model.json has 20000001 bytes, at most 20000000",
        ),
        (facts(format="covoxel registration model 9"), "model.json: format = 'covoxel registration model 9' is wrong"),
        (facts(ndim=4), "model.json: ndim = 4 is wrong"),
        (facts(spacing_mm=[1.0, -1.0, 1.0]), "model.json: spacing_mm.1 = -1.0 is wrong"),
        (facts(spacing_mm=[1.0, 1.0]), "spacing_mm = (1.0, 1.0) must have a value for each of 3 axes"),
        (facts(recipe="other"), "recipe.yaml is 'tiny'; model.json was saved with 'other'"),
        (facts(alignment="none"), "recipe.yaml wants alignment 'affine'; model.json was saved with 'none'"),
        (
            facts(taught_by=[{"voxels": "0", "shape": [2, 2], "ras_from_voxel": [[1, 0], [0, 1]]}]),
            "model.json: taught_by.0",
        ),
        (facts(weights_sha256=()), "model.json: weights_sha256 is missing"),
        (lambda folder: (folder / RECIPE).unlink(), "recipe.yaml: the file cannot be read"),
        (recipe(network="voxelmorf"), "unknown registration network 'voxelmorf'"),
        (recipe(network_settings={**TINY, "half": 6}), "weights.safetensors is of another network than recipe.yaml"),
        (recipe(network_settings={**TINY, "decoder": [6]}), "decoder must be as long as encoder"),
        (lambda folder: (folder / WEIGHTS).unlink(), "weights.safetensors cannot be read: No such file"),
        (cut, "weights.safetensors is not the file that was saved: SHA-256 must be"),
        (no_safetensors, "weights.safetensors is no safetensors file"),
        (weights(lambda found: {key: found[key] for key in sorted(found)[1:]}), "is missing"),
        (weights(lambda found: found | {"more": torch.ones(1)}), "it has more, which there is not"),
        (weights(first(lambda found: found[:1])), "must be [4], got [1]"),
        (weights(first(lambda found: found * torch.nan)), "all weights must be finite, those of"),
    ],
)
def test_what_is_wrong_with_a_folder_is_one_sentence(folder: Path, spoil: Spoil, sentence: str) -> None:
    spoil(folder)
    with pytest.raises(ModelError) as caught:
        load_model(folder, "cpu")
    assert str(caught.value).startswith(f"model {folder}: ")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
