"""Training by nnU-Net: weights reach the batches, a killed training goes on to the same bits, and trouble is told."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from covoxel.external.nnunet import (
    NnunetError,
    Plan,
    Weighting,
    WorkerLostError,
    plan,
    read_dataset,
    surer,
    train_fold,
)
from covoxel.external.nnunet.sampling import Batches, Recipe, Teacher
from covoxel.external.nnunet.trainer import WeightedTrainer
from covoxel.segmentation import Segmented
from covoxel.spatial import Grid, Image
from tests.unit.external.conftest import TINY, Tiny, planned

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from covoxel.external.nnunet import plan, read_dataset, train_fold
from tests.unit.external.conftest import TINY
torch.set_num_threads(1)
folder = Path(sys.argv[1])
made = plan(read_dataset(folder / "Dataset001_Balls"), folder / "work", TINY)
die = lambda done, total, loss: os.kill(os.getpid(), signal.SIGKILL) if done == 3 else None
train_fold(made, 0, ["case0", "case2"], checkpoint=folder / "state.pt", progress=die)
"""


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def batches(made: Plan, weighting: Weighting, seed: int = 0) -> Batches:
    trainer = WeightedTrainer(made, torch.device("cpu"), "float32", 0)
    teachers = [Teacher("case0", False, 1.0), Teacher("case2", True, 0.5)]
    recipe = Recipe(
        made.folder,
        teachers,
        weighting,
        made.plans,
        made.dataset_json,
        made.configuration,
        trainer.drawn,
        trainer.transforms,
        0.33,
        seed,
    )
    return Batches(recipe)


def test_a_killed_training_goes_on_to_the_same_bits(tiny: Tiny, tmp_path: Path, root: Path) -> None:
    for name in ("Dataset001_Balls", "work"):
        (tmp_path / name).symlink_to(tiny.folder / name)
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    steps: list[int] = []
    found = train_fold(
        tiny.plan,
        0,
        ["case0", "case2"],
        checkpoint=tmp_path / "state.pt",
        progress=lambda done, total, loss: steps.append(done),
    )
    assert steps == [3, 4], "the checkpoint is of the second step, where the epoch ended"
    assert same(found.weights, tiny.model.weights)
    assert found.losses == tiny.model.losses
    with pytest.raises(NnunetError, match="is a checkpoint of another training: its seed differs"):
        train_fold(tiny.plan, 0, ["case0", "case2"], seed=1, checkpoint=tmp_path / "state.pt")


def test_a_plan_that_is_there_is_the_same_and_nothing_is_prepared_again(tiny: Tiny) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny.plan.folder.iterdir()}
    again = plan(read_dataset(tiny.dataset.folder), tiny.folder / "work", TINY)
    assert again.fingerprint == tiny.plan.fingerprint
    assert {path: path.stat().st_mtime_ns for path in tiny.plan.folder.iterdir()} == before


def test_a_batch_depends_on_its_step_alone_and_moves_no_generator(tiny: Tiny) -> None:
    made = batches(tiny.plan, Weighting())
    np.random.seed(5)
    torch.manual_seed(5)
    wanted = np.random.rand(), torch.rand(1).item()
    np.random.seed(5)
    torch.manual_seed(5)
    first = made[7]
    assert (np.random.rand(), torch.rand(1).item()) == wanted
    assert torch.equal(batches(tiny.plan, Weighting())[7].data, first.data)
    assert not torch.equal(made[8].data, first.data)
    assert first.data.shape == (2, 1, 16, 20, 16)[:2] + tuple(tiny.plan.profile.patch or ())


@pytest.mark.parametrize(
    ("weighting", "least", "cases"),
    [
        (Weighting(), 0.5, {1.0, 0.5}),
        (Weighting(power=2, fused_weight=0.5), 0.25, {1.0, 0.25}),
        (Weighting(power=0), 1.0, {1.0, 0.5}),
        (Weighting(ignore_below=0.6), 0.0, {1.0, 0.5}),
        (Weighting(hand_share=1), 1.0, {1.0}),
    ],
)
def test_confidences_become_weights_of_voxels_and_cases(
    tiny: Tiny, weighting: Weighting, least: float, cases: set[float]
) -> None:
    made = batches(tiny.plan, weighting)
    found = [made[step] for step in range(6)]
    lowest = min(float(batch.weights.min()) for batch in found if batch.weights is not None)
    assert abs(lowest - least) < 1e-3
    assert {float(weight) for batch in found for weight in batch.cases} == cases


@pytest.mark.parametrize(("least", "shares"), [(0.0, [0.25] * 4), (0.25, [0.25] * 4), (0.4, [0.4, 0.2, 0.2, 0.2])])
def test_hand_labelled_cases_have_their_least_share_of_the_patches(
    tiny: Tiny, least: float, shares: list[float]
) -> None:
    recipe = batches(tiny.plan, Weighting(hand_share=least)).recipe
    teachers = [Teacher(f"case{number}", number > 0, 1.0) for number in range(4)]
    assert Batches(replace(recipe, teachers=teachers)).shares.tolist() == pytest.approx(shares)


def test_hand_labelled_cases_alone_have_no_weights(tiny: Tiny) -> None:
    made = batches(tiny.plan, Weighting())
    alone = Batches(replace(made.recipe, teachers=made.recipe.teachers[:1]))
    assert alone[0].weights is None


def test_a_training_without_cases_is_refused(tiny: Tiny) -> None:
    with pytest.raises(NnunetError, match="must have a case to train on: none was named"):
        train_fold(tiny.plan, 0, [])
    with pytest.raises(NnunetError, match="case nobody must be of the plan"):
        train_fold(tiny.plan, 0, ["nobody"])
    with pytest.raises(NnunetError, match="case case0 must not both teach and be validated on"):
        train_fold(tiny.plan, 0, ["case0"], ["case0"])


def test_a_case_that_cannot_be_prepared_does_not_stop_the_others(tiny: Tiny, tmp_path: Path) -> None:
    dataset, _ = planned(tmp_path, TINY)
    label = dataset.training[1].label
    assert label is not None
    label.write_bytes(label.read_bytes()[:60])
    made = plan(read_dataset(dataset.folder), tmp_path / "work", TINY)
    assert list(made.failed) == ["case1"]
    assert str(label) in made.failed["case1"]
    assert list(made.cases) == ["case0", "case2"]
    for case in dataset.training:
        case.images[0].unlink()
    with pytest.raises(NnunetError, match="has no case to train on|must have a case"):
        plan(read_dataset(dataset.folder), tmp_path / "work", TINY)


def test_a_worker_that_is_killed_is_told_of_with_the_bytes(tiny: Tiny) -> None:
    made = replace(tiny.plan, profile=replace(tiny.plan.profile, workers=1, epochs=500))

    def kill(done: int, total: int, loss: float) -> None:
        if done == 1:
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, signal.SIGKILL)

    with pytest.raises(WorkerLostError, match=r"was killed by SIGKILL, .* bytes\) were at hand"):
        train_fold(made, 0, ["case0"], progress=kill)


def test_fused_labels_give_way_where_the_model_is_surer_than_the_fusion() -> None:
    grid = Grid.from_spacing((4, 1, 1))
    fused, confidence = torch.tensor([0, 7, 7, 0]), torch.tensor([0.9, 0.6, 0.6, 0.5])
    probabilities = torch.tensor([[0.2, 0.7, 0.55, 0.3], [0.8, 0.3, 0.45, 0.7]]).view(2, 4, 1, 1)
    said = Segmented(grid, torch.tensor([0, 7]), probabilities, 0.0)
    images = Image(fused.view(4, 1, 1), grid), Image(confidence.view(4, 1, 1), grid)
    found = surer(*images, said)
    assert found.label_map.data.flatten().tolist() == [0, 0, 7, 7]
    assert found.confidence.data.flatten().tolist() == pytest.approx([0.9, 0.7, 0.6, 0.7])
    assert found.replaced == pytest.approx(2 / 3), "of three voxels that have a structure before or after"
    assert surer(*images, said, margin=0.15).label_map.data.flatten().tolist() == [0, 7, 7, 7]
    with pytest.raises(NnunetError, match="must lie on one grid"):
        surer(*images, Segmented(Grid.from_spacing((4, 1, 1), 2.0), said.values, probabilities, 0.0))


def test_a_2d_plan_trains(tmp_path: Path) -> None:
    _, made = planned(tmp_path, TINY, flat=True)
    assert made.configuration == "2d"
    assert len(train_fold(made, "all", ["case0", "case1", "case2"]).losses) == 2
