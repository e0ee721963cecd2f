"""Norm, encoder and decoder of the joint networks against what they say of themselves."""

import pytest
import torch

from nets.joint.parts import Decoder, Encoder, Norm, label_channels


def test_the_norm_is_instance_norm_and_takes_one_voxel() -> None:
    norm, x = Norm(3), torch.randn(2, 3, 5, 4) * 3 + 2
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
        norm.bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
    centred = x - x.mean((2, 3), keepdim=True)
    expected = centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
    expected = expected * norm.weight.view(1, 3, 1, 1) + norm.bias.view(1, 3, 1, 1)
    torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(norm(x[..., :1, :1]), norm.bias.view(1, 3, 1, 1).expand(2, 3, 1, 1))


@pytest.mark.parametrize("shape", [(13, 10), (9, 1, 6)])
def test_a_level_has_half_the_cells_of_the_one_before(shape: tuple[int, ...]) -> None:
    features = Encoder(len(shape), 2, (4, 6, 8))(torch.randn(2, 2, *shape))
    cells = [tuple(-(-side // 2**at) for side in shape) for at in range(3)]
    assert [x.shape for x in features] == [(2, width, *sides) for width, sides in zip((4, 6, 8), cells, strict=True)]


@pytest.mark.parametrize("until", [0, 1, 2])
def test_a_decoder_says_the_features_that_it_promises_and_looks_at_every_skip(until: int) -> None:
    decoder = Decoder(2, (4, 6, 8), (5, 7, 9), until)
    skips = [torch.randn(1, channels, side, side) for channels, side in ((5, 12), (7, 6), (9, 3))]
    said = decoder(skips)
    assert tuple(x.shape[1] for x in said) == decoder.widths == ((9, 6, 4)[: 3 - until])
    assert [x.shape[2] for x in said] == [3, 6, 12][: 3 - until]
    for at in range(3):
        changed = [skip.flip(2) if index == at else skip for index, skip in enumerate(skips)]
        assert torch.equal(decoder(changed)[-1], said[-1]) == (at < until)


def test_unknown_labels_are_zeros_beside_the_image() -> None:
    image, labels = torch.rand(2, 1, 4, 5), torch.rand(2, 3, 4, 5)
    assert label_channels(labels, image, 3) is labels
    none = label_channels(None, image.half(), 3)
    assert none.shape == labels.shape
    assert none.dtype == torch.half
    assert not none.any()
