"""Joint model folders: verdicts are applied, what is saved comes back to the bit, and nothing wrong is believed."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from covoxel.io import sha256_file
from covoxel.segmentation import ImageModel, PairSegmenter
from covoxel.training.joint import JointRecipe, SegmentationRecipe, Verdict
from covoxel.training.joint_net import JointNetRecipe
from covoxel.training.registration import Recipe
from tasks.joint_facts import FACTS, joint_facts
from tasks.joint_models import RECIPE, ModelError, joint_model_sha256, load_segmenter, save_joint
from tasks.joint_recipe import build_joint_net, build_networks
from tasks.models import load_model

TINY = {"encoder": [4], "decoder": [4], "half": 4, "last": [4]}
TWO = JointRecipe(
    "two",
    "A test.",
    Recipe("two", "A test.", "voxelmorph-1", 3, network_settings=TINY),
    SegmentationRecipe(network_settings={"widths": [4, 4]}),
)
ONE = JointNetRecipe("one", "A test.", "shared-unet", 3, network_settings={"widths": [4, 4]}, alignment="affine")
VALUES = (0, 3, 17)
SPACING_MM = (1.0, 1.2, 2.0)


def verdict(label: int, use: str) -> Verdict:
    sentence = f"label {label}: the {use} network is used"
    return Verdict(label, use, 2, -0.25, math.nan, math.nan, sentence)  # type: ignore[arg-type]


def networks() -> dict[str, nn.Module]:
    """A registration network, and two segmentation networks that differ."""
    registration, segmentation, _ = build_networks(TWO, 3, len(VALUES))
    separate = build_networks(replace(TWO, seed=1), 3, len(VALUES))[1]
    return {"registration": registration, "segmentation": segmentation.eval(), "separate": separate.eval()}


def save(folder: Path, *verdicts: Verdict, **changes: object) -> Path:
    given = {"values": VALUES, "ndim": 3, "spacing_mm": SPACING_MM, "verdicts": verdicts} | changes
    save_joint(folder, TWO, networks(), **given)  # type: ignore[arg-type]
    return folder


def image() -> Tensor:
    return torch.rand(2, 1, 11, 9, 8, generator=torch.Generator().manual_seed(1))


def probabilities(folder: Path) -> Tensor:
    model = load_segmenter(folder, "cpu")
    assert isinstance(model, ImageModel)
    return model.logits(image()).softmax(1)


def said_by(name: str) -> Tensor:
    with torch.no_grad():
        said: Tensor = networks()[name](image()).softmax(1)
    return said


def test_what_is_saved_comes_back_to_the_bit_and_says_what_it_needs(tmp_path: Path) -> None:
    model = load_segmenter(save(tmp_path, verdict(1, "joint"), verdict(2, "joint"), notes=["a note"]), "cpu")
    assert isinstance(model, ImageModel)
    with torch.no_grad():
        assert torch.equal(model.logits(image()), networks()["segmentation"](image()))
    assert not model.logits(image()).requires_grad
    assert (model.values, model.spacing_mm, model.smallest_side) == (VALUES, SPACING_MM, 1)
    assert 10 < model.bytes_per_voxel < 2000
    facts = joint_facts(tmp_path)
    assert (facts.hurt, facts.notes, facts.verdicts[0].low) == ((), ("a note",), None)
    assert facts.verdicts[1].difference == -0.25
    registration = load_model(tmp_path / "registration", "cpu")
    assert registration.spacing_mm == SPACING_MM
    assert yaml.safe_load((tmp_path / RECIPE).read_text())["segmentation"]["network_settings"] == {"widths": [4, 4]}


def test_a_label_that_joint_training_hurts_is_the_separate_network_s_and_the_others_share_the_rest(
    tmp_path: Path,
) -> None:
    joint, separate = said_by("segmentation"), said_by("separate")
    found = probabilities(save(tmp_path, verdict(1, "joint"), verdict(2, "separate")))
    assert (joint - separate).abs().max() > 0.01, "the networks differ"
    torch.testing.assert_close(found[:, 2], separate[:, 2])
    torch.testing.assert_close(found.sum(1), torch.ones_like(found[:, 0]))
    shares = [said[:, 0] / said[:, :2].sum(1) for said in (found, joint)]
    torch.testing.assert_close(*shares, rtol=0, atol=1e-4)


def test_a_network_that_is_sure_of_a_hurt_label_does_not_leave_the_others_to_chance(tmp_path: Path) -> None:
    found = save(tmp_path, verdict(1, "joint"), verdict(2, "separate"))
    sure(found / "segmentation.safetensors", [0.0, -60.0, 60.0])
    sure(found / "separate.safetensors", [10.0, 0.0, -10.0])
    said = probabilities(found)
    assert said.isfinite().all()
    assert (said[:, 2] < 1e-6).all()
    assert (said[:, 0] > 0.99).all(), "as the separate network shares, since the joint one leaves nothing to share by"


def sure(path: Path, biases: list[float]) -> None:
    """Weights by which a network says the same of every voxel, with the hash that goes with them."""
    weights = {name: torch.zeros_like(part) for name, part in load_file(path).items()}
    save_file(weights | {"head.bias": torch.tensor(biases)}, path)
    content = json.loads((path.parent / FACTS).read_text())
    content["files"][path.name] = sha256_file(path)
    (path.parent / FACTS).write_text(json.dumps(content))


def test_where_joint_training_hurts_every_label_the_separate_network_speaks_alone(tmp_path: Path) -> None:
    folder = save(tmp_path, verdict(1, "separate"), verdict(2, "separate"))
    (folder / "segmentation.safetensors").unlink()
    assert torch.equal(probabilities(folder), said_by("separate"))


def test_one_network_segments_beside_a_labelled_image(tmp_path: Path) -> None:
    network = build_joint_net(ONE, 3, len(VALUES)).eval()
    save_joint(tmp_path, ONE, {"network": network}, values=VALUES, ndim=3, spacing_mm=SPACING_MM)
    model = load_segmenter(tmp_path, "cpu")
    assert isinstance(model, PairSegmenter)
    labels = torch.rand(2, 3, 11, 9, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        said = network(image(), image().flip(2), labels).fixed_logits
    assert torch.equal(model.logits(image(), image().flip(2), labels), said)
    assert (model.values, model.alignment) == (VALUES, "affine")
    assert not (tmp_path / "registration").exists()


def test_a_training_without_labels_leaves_what_only_registers_and_takes_away_what_was_there(tmp_path: Path) -> None:
    save(tmp_path)
    save_joint(tmp_path, TWO, {"registration": networks()["registration"]}, values=(), ndim=3, spacing_mm=SPACING_MM)
    assert {path.name for path in tmp_path.iterdir()} == {"registration", RECIPE, FACTS}
    with pytest.raises(ModelError, match="it has not learnt to segment: its training had no atlas"):
        load_segmenter(tmp_path, "cpu")


def test_a_model_is_known_by_what_it_says(tmp_path: Path) -> None:
    known = joint_model_sha256(save(tmp_path / "first", verdict(1, "joint")))
    same = save(tmp_path / "again", verdict(1, "joint"), verdict(2, "joint"), notes=["other"], trained={"seconds": 8})
    assert joint_model_sha256(same) == known
    assert joint_model_sha256(save(tmp_path / "hurt", verdict(1, "separate"))) != known
    assert joint_model_sha256(save(tmp_path / "values", values=(0, 3, 18))) != known
    other = save(tmp_path / "weights", verdict(1, "joint"))
    sure(other / "segmentation.safetensors", [0.0, 1.0, 2.0])
    assert joint_model_sha256(other) != known


Spoil = Callable[[Path], None]


def facts(**changes: object) -> Spoil:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / FACTS).read_text())
        (folder / FACTS).write_text(json.dumps(content | changes))

    return spoil


def cut(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-8])

    return spoil


def other_recipe(**changes: object) -> Spoil:
    """Another recipe, and the hash that goes with it."""

    def spoil(folder: Path) -> None:
        content = yaml.safe_load((folder / RECIPE).read_text())
        (folder / RECIPE).write_text(yaml.safe_dump(content | changes))
        files = json.loads((folder / FACTS).read_text())["files"]
        facts(files=files | {RECIPE: sha256_file(folder / RECIPE)})(folder)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: folder.rename(folder.with_name("gone")), "there is no such folder; train-joint makes one"),
        (lambda folder: (folder / FACTS).unlink(), "joint.json cannot be read: No such file"),
        (lambda folder: (folder / FACTS).write_text("{"), "joint.json: the file is no JSON mapping"),
        (facts(format="covoxel joint model 9"), "joint.json: format = 'covoxel joint model 9' is wrong"),
        (facts(values=[0, 17, 3]), "joint.json: values must ascend from 0, got [0, 17, 3]"),
        (facts(values=[1, 2, 3]), "joint.json: values must ascend from 0"),
        (facts(spacing_mm=[1.0, 1.0]), "must have a value for each of 3 axes"),
        (facts(spacing_mm=[1.0, 1.0, 0.0]), "joint.json: spacing_mm.2 = 0.0 is wrong"),
        (facts(verdicts=[{"label": 1, "use": "none"}]), "joint.json: verdicts.0.use = 'none' is wrong"),
        (facts(values=[0, 3]), "verdicts must be of labels 1 to 1, got one of [2]"),
        (facts(values=[0, 3, 17, 40]), "is of another network than recipe.yaml: head.bias must be [4], got [3]"),
        (facts(recipe="other"), "recipe.yaml is 'two'; joint.json was saved with 'other'"),
        (facts(files={}), "recipe.yaml is not the file that was saved"),
        (cut(RECIPE), "recipe.yaml is not the file that was saved: SHA-256 must be"),
        (lambda folder: (folder / RECIPE).unlink(), "recipe.yaml cannot be read: No such file"),
        (other_recipe(joint_stesp=3), "recipe.yaml: unknown key joint_stesp; the nearest known key is joint_steps"),
        (other_recipe(segmentation={"network_settings": {"widths": [4]}}), "is of another network than recipe.yaml"),
        (cut("segmentation.safetensors"), "segmentation.safetensors is not the file that was saved"),
        (cut("separate.safetensors"), "separate.safetensors is not the file that was saved"),
        (lambda folder: (folder / "separate.safetensors").unlink(), "separate.safetensors cannot be read"),
    ],
)
def test_what_is_wrong_with_a_folder_is_one_sentence(tmp_path: Path, spoil: Spoil, sentence: str) -> None:
    folder = save(tmp_path / "model", verdict(1, "joint"), verdict(2, "separate"))
    spoil(folder)
    with pytest.raises(ModelError) as caught:
        load_segmenter(folder, "cpu")
    assert str(caught.value).startswith(f"model {folder}: ")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
