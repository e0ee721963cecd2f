"""No rule makes a label up, counts wrongly in a large volume, or takes more memory than it says."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from covoxel.fusion import FUSION_RULES, Evidence, fuse

RULES = sorted(FUSION_RULES)
VALUES = torch.tensor([0, 7, 1035, 4095])


def scene(shape: tuple[int, ...], atlases: int, seed: int, *, seen: float = 0.9, values: Tensor = VALUES) -> Evidence:
    """Atlases with blocks of labels, interpolated; some lack a label, some have none at all, some see little."""
    generator = torch.Generator().manual_seed(seed)
    rough = tuple(-(-side // 3) for side in shape)
    coarse = torch.randint(0, len(values), (atlases, *rough), generator=generator)
    missing = torch.randint(0, 2 * len(values), (atlases,), generator=generator)
    coarse[coarse == missing.view(-1, *[1] * len(shape))] = 0
    coarse[missing == 2 * len(values) - 1] = 0
    for axis, side in enumerate(shape, 1):
        coarse = coarse.repeat_interleave(3, axis).narrow(axis, 0, side)
    sharp = torch.stack([(coarse == index).float() for index in range(len(values))], 1)
    labels = 0.7 * sharp + 0.3 * sharp.roll(1, -1)
    moved = coarse + 0.5 * torch.randn((atlases, *shape), generator=generator)
    valid = torch.rand((atlases, *shape), generator=generator) < seen
    return Evidence(moved.mean(0), moved, labels, values, valid)


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=15)
@given(
    shape=st.sampled_from([(9, 7), (6, 7, 5), (1, 8, 9), (2, 2)]),
    atlases=st.integers(1, 5),
    seed=st.integers(0, 10**6),
    seen=st.sampled_from([0.2, 0.9, 1.1]),
)
def test_a_label_is_one_that_was_voted_for_nearby(
    rule: str, shape: tuple[int, ...], atlases: int, seed: int, seen: float
) -> None:
    evidence = scene(shape, atlases, seed, seen=seen)
    fused = fuse(rule, evidence)
    assert fused.probabilities.isfinite().all()
    assert_close(fused.probabilities.sum(0), torch.ones(shape), atol=1e-5, rtol=0)
    votes = evidence.labels * evidence.valid[:, None]
    assert set(fused.label_map.unique().tolist()) <= {0, *VALUES[votes.sum(0).flatten(1).sum(1) > 0].tolist()}
    if rule in ("majority", "staple", "data_parameters"):
        invented = (fused.probabilities > 0) & (votes.sum(0) == 0)
        assert not invented[1:].any()


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), atlases=st.integers(2, 6))
def test_the_order_of_atlases_is_irrelevant(rule: str, seed: int, atlases: int) -> None:
    evidence = scene((8, 7, 6), atlases, seed)
    order = torch.randperm(atlases, generator=torch.Generator().manual_seed(seed))
    turned = replace(evidence, moved=evidence.moved[order], labels=evidence.labels[order], valid=evidence.valid[order])
    assert_close(fuse(rule, turned).probabilities, fuse(rule, evidence).probabilities, atol=1e-4, rtol=0)


@pytest.mark.parametrize("rule", RULES)
def test_one_atlas_is_returned_and_so_are_its_copies(rule: str) -> None:
    one = scene((8, 7, 6), 1, 3, seen=1.1)
    for atlases in (1, 4):
        copies = Evidence(
            one.fixed,
            one.moved.expand(atlases, -1, -1, -1),
            one.labels.expand(atlases, -1, -1, -1, -1),
            one.values,
            one.valid.expand(atlases, -1, -1, -1),
        )
        assert_close(fuse(rule, copies).probabilities, one.labels[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("rule", RULES)
def test_an_empty_atlas_does_not_empty_the_result(rule: str) -> None:
    evidence = alike([True, True, True, True, False])
    fused = fuse(rule, evidence)
    assert set(fused.label_map.unique().tolist()) == {0, 1035, 4095}
    assert (fused.label_map[4, 4, 4:8] == torch.tensor([1035, 1035, 4095, 4095])).all()


@pytest.mark.parametrize("rule", RULES)
def test_a_label_of_one_atlas_alone_is_not_the_result(rule: str) -> None:
    fused = fuse(rule, alike([True, False, False, False, False]))
    assert set(fused.label_map.unique().tolist()) == {0}


def alike(holds: list[bool]) -> Evidence:
    """The same image for all; atlases that hold its two labels and atlases that hold none."""
    shape = (9, 9, 12)
    sharp = torch.zeros(3, *shape)
    sharp[1, 3:6, 3:6, 3:6] = 1
    sharp[2, 3:6, 3:6, 6:9] = 1
    sharp[0] = 1 - sharp[1:].sum(0)
    empty = torch.zeros_like(sharp)
    empty[0] = 1
    labels = torch.stack([sharp if held else empty for held in holds])
    image = sharp[1] - sharp[2] + 0.2 * torch.randn(shape)
    valid = torch.ones((len(holds), *shape), dtype=torch.bool)
    return Evidence(image, image.expand(len(holds), *shape), labels, torch.tensor([0, 1035, 4095]), valid)


@pytest.mark.parametrize("rule", RULES)
def test_three_hundred_atlases_of_a_small_volume(rule: str) -> None:
    start = time.process_time()
    fused = fuse(rule, scene((6, 5, 5), 300, 1))
    assert fused.probabilities.isfinite().all()
    assert time.process_time() - start < 20


class Largest(TorchDispatchMode):
    """The most numbers any tensor holds that is made while this is on."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.numbers = max(self.numbers, leaf.untyped_storage().nbytes() // leaf.element_size())
        return result


@pytest.mark.parametrize("rule", ["locally_weighted", "joint_label_fusion", "staple"])
def test_no_quantity_outgrows_its_tile(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """27 offsets of 10 atlases at 1500 voxels would be 405 000 numbers, and 125 differences of each far more."""
    evidence, work = scene((12, 12, 12), 10, 0), 2**17
    assert evidence.labels.numel() < work
    for module in ("search", "joint_label_fusion", "staple"):
        monkeypatch.setattr(f"covoxel.fusion.{module}._WORK", work)
    monkeypatch.setattr("covoxel.fusion.appearance._ROWS", 1000)
    with Largest() as largest:
        fuse(rule, evidence, **({"spread": 1} if rule == "joint_label_fusion" else {}))
    assert work / 4 < largest.numbers <= 1.5 * work


LARGE = """
import resource, torch
from covoxel.fusion import Evidence, fuse
shape = (300, 300, 300)
sharp = torch.zeros((2, 2, *shape))
sharp[:, 1, 1:, :, :] = 1
sharp[1, 1, 140:142, :150, :150] = 0
sharp[:, 0] = 1 - sharp[:, 1]
image = torch.zeros(shape)
valid = torch.ones(1, dtype=torch.bool).expand(2, *shape)
evidence = Evidence(image, image.expand(2, *shape), sharp, torch.tensor([0, 4095]), valid)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fused = fuse({rule!r}, evidence{options})
assert int((fused.label_map == 4095).sum()) in (299 * 300**2, 299 * 300**2 - 2 * 150**2)
assert set(fused.label_map.unique().tolist()) == {{0, 4095}}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "options"), [("majority", ""), ("staple", ", agreed=True"), ("data_parameters", "")])
def test_a_volume_of_27_million_voxels(rule: str, options: str, root: Path) -> None:
    """26.9 million of them of one label. Takes less than 2 GiB beside the evidence, and less than a minute."""
    program = LARGE.format(rule=rule, options=options)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2 * 2**20
