"""Memory: plans are cut down in their order with a sentence each, and what there is bounds all."""

import copy
from dataclasses import replace

import pytest
import torch

from covoxel.external.nnunet import (
    MemoryLimitError,
    NnunetError,
    TrainedModel,
    at_hand,
    prediction_bytes,
    profile,
    surer,
    training_bytes,
)
from covoxel.external.nnunet.cut import Cut
from covoxel.segmentation import Segmented
from covoxel.spatial import Grid, Image
from tests.unit.external.conftest import Tiny


def cut_to(tiny: Tiny, memory: int, workers: int = 2) -> tuple[Cut, list[str]]:
    how = replace(tiny.plan.profile, workers=workers, precision="float32")
    plans = copy.deepcopy(dict(tiny.plan.plans))
    cut = Cut(plans, tiny.plan.dataset_json, tiny.plan.configuration, how, torch.device("cpu"), memory)
    return cut, cut.cut_down()


def test_first_the_batch_then_the_patch_then_the_workers_are_cut(tiny: Tiny) -> None:
    whole = training_bytes(replace(tiny.plan, profile=replace(tiny.plan.profile, workers=2))).total
    assert cut_to(tiny, whole)[1] == []
    cut, words = cut_to(tiny, whole - 1)
    assert [sentence.split(" is ")[0] for sentence in words] == ["batch"]
    assert words[0].startswith(
        f"batch is 1 instead of 2, as training would take {whole / 2**30:.2f} GiB ({whole} bytes)"
    )
    least = training_bytes(replace(tiny.plan, profile=replace(tiny.plan.profile, workers=0))).total
    cut, words = cut_to(tiny, least)
    assert [sentence.split(" is ")[0] for sentence in words] == ["batch", "patch", "workers"]
    assert cut.workers == 0
    with pytest.raises(MemoryLimitError, match=r"smallest plan takes .* bytes\), and .*1000 bytes\) are at hand"):
        cut_to(tiny, 1000)


def test_a_larger_image_and_more_folds_take_more(tiny: Tiny) -> None:
    one = TrainedModel.of(tiny.plan, [tiny.model])
    two = TrainedModel.of(tiny.plan, [tiny.model, tiny.model])
    small, large = (prediction_bytes(one, (side,) * 3, (1.0,) * 3) for side in (50, 100))
    assert large.host > small.host
    assert prediction_bytes(two, (50, 50, 50), (1.0,) * 3).device > small.device
    assert 10 * 2**20 < at_hand() < 2**45


def test_a_profile_takes_other_fields_and_no_unknown_ones() -> None:
    assert profile("cpu", batch=4).batch == 4
    assert profile("cpu").of_steps(30).steps == 25
    assert profile("cpu").of_steps(3).steps == 3
    assert profile("gpu").steps == 250_000
    with pytest.raises(ValueError, match="profile must be one of cpu, gpu, gpu-resenc, got 'tpu'"):
        profile("tpu")
    with pytest.raises(ValueError, match="a profile has no field 'epoch'"):
        profile("cpu", epoch=3)
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        profile("cpu", batch=0)


def test_the_model_is_followed_where_it_is_surer_than_the_fusion() -> None:
    grid = Grid.from_spacing((4, 1, 1))
    fused = Image(torch.tensor([0, 3, 3, 7]).view(4, 1, 1), grid)
    confidence = Image(torch.tensor([0.9, 0.5, 0.95, 0.6]).view(4, 1, 1), grid)
    said = torch.tensor([[0.1, 0.9, 0.0], [0.1, 0.2, 0.7], [0.1, 0.0, 0.9], [0.0, 0.1, 0.9]]).T.reshape(3, 4, 1, 1)
    found = surer(fused, confidence, Segmented(grid, torch.tensor([0, 3, 7]), said, 0.0), margin=0.1)
    assert found.label_map.data.flatten().tolist() == [0, 7, 3, 7]
    torch.testing.assert_close(found.confidence.data.flatten(), torch.tensor([0.9, 0.7, 0.95, 0.9]))
    assert found.replaced == pytest.approx(1 / 3)
    with pytest.raises(NnunetError, match="margin must be from 0 to 1, got 2"):
        surer(fused, confidence, Segmented(grid, torch.tensor([0, 3, 7]), said, 0.0), margin=2)
