"""What every segmentation network must be."""

import pytest
import torch
from torch import Tensor, nn

from nets.blocks import parameter_count
from nets.segmentation import SEGMENTATION_NETS

SHAPES = {2: (20, 24), 3: (12, 16, 8)}


@pytest.fixture(params=sorted(SEGMENTATION_NETS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[2, 3], ids=["2-D", "3-D"])
def ndim(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def build(name: str, ndim: int, labels: int = 3, inputs: int = 1, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return SEGMENTATION_NETS[name](ndim=ndim, labels=labels, inputs=inputs)


def output(network: nn.Module, image: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = network.eval()(image)
    return logits


@pytest.mark.parametrize("labels", [2, 5])
def test_logits_of_every_label_come_out_on_the_image(name: str, ndim: int, labels: int) -> None:
    image = torch.randn(2, 2, *SHAPES[ndim])
    logits = output(build(name, ndim, labels, inputs=2), image)
    assert logits.shape == (2, labels, *SHAPES[ndim])
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    assert logits.std() > 0


@pytest.mark.parametrize("side", [1, 2, 3, 7, 13])
def test_any_size_will_do(name: str, ndim: int, side: int) -> None:
    """Odd ones, and some smaller than the network's stride, along one axis and along all."""
    network = build(name, ndim).train()
    for shape in ((side,) * ndim, (side, *SHAPES[ndim][1:])):
        logits = network(torch.randn(1, 1, *shape))
        assert logits.shape == (1, 3, *shape)
        assert logits.isfinite().all()


def test_every_parameter_learns(name: str, ndim: int) -> None:
    network = build(name, ndim).train()
    logits = network(torch.randn(2, 1, *SHAPES[ndim]))
    nn.functional.cross_entropy(logits, torch.randint(0, 3, (2, *SHAPES[ndim]))).backward()
    still = [
        n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
    ]
    assert still == []


def test_a_seed_gives_the_same_network_and_result_bit_for_bit(name: str, ndim: int) -> None:
    image = torch.randn(1, 1, *SHAPES[ndim])
    first, again, other = (output(build(name, ndim, seed=seed), image) for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_images_of_a_batch_do_not_see_each_other(name: str, ndim: int) -> None:
    network, images = build(name, ndim), torch.randn(2, 1, *SHAPES[ndim])
    torch.testing.assert_close(output(network, images)[1:], output(network, images[1:]), atol=1e-4, rtol=1e-4)


def test_every_voxel_is_looked_at(name: str, ndim: int) -> None:
    """The last one too, for all the padding: a change there changes its logits."""
    network, image = build(name, ndim), torch.randn(1, 1, *(side - 1 for side in SHAPES[ndim]))
    changed = image.clone()
    changed[(..., *[-1] * ndim)] += 3
    last = (0, slice(None), *[-1] * ndim)
    assert (output(network, changed)[last] - output(network, image)[last]).abs().max() > 1e-3


def test_half_precision_stays_close(name: str, ndim: int) -> None:
    network, image = build(name, ndim), torch.randn(1, 1, *SHAPES[ndim])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = network(image)
        nn.functional.cross_entropy(coarse.float(), torch.ones(1, *SHAPES[ndim], dtype=torch.long)).backward()
    fine = output(network, image)
    assert (coarse.float() - fine).abs().mean() < 0.1 * fine.abs().mean()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_it_is_compact(name: str, ndim: int) -> None:
    count = parameter_count(build(name, ndim))
    assert 1_000 < count < 500_000


def test_a_wrong_input_is_named(name: str, ndim: int) -> None:
    network = build(name, ndim)
    with pytest.raises(ValueError, match="the input must be"):
        network(torch.randn(1, 2, *SHAPES[ndim]))
    with pytest.raises(ValueError, match="the input must be"):
        network(torch.randn(1, *SHAPES[ndim]))
    with pytest.raises(ValueError, match="ndim must be 2 or 3"):
        build(name, 4)


def test_it_is_documented_with_its_source(name: str) -> None:
    assert "References" in (SEGMENTATION_NETS[name].__doc__ or "")
