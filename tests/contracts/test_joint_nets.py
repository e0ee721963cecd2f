"""What every joint network must be, whatever its architecture, in 2-D and 3-D, with moving labels and without."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from covoxel.spatial import warp
from covoxel.spatial.field import compose
from covoxel.spatial.smoothing import gaussian, refine
from nets.joint import JOINT_NETS, Joint, JointNet

ODD = {2: (21, 14), 3: (13, 10, 9)}
LABELS = 3
WIDTHS = (4, 6, 8)
BACKBONE: dict[str, Any] = {"registration_settings": {"widths": ((4, 6), (4, 6, 8))}}
SMALL: dict[str, list[dict[str, Any]]] = {
    "cross-stitch": [
        {"widths": WIDTHS},
        {"widths": WIDTHS, "segmentation_sees": "fixed", "stitched": (1, 2), "head": "displacement"},
        {"widths": WIDTHS, "linked": False},
    ],
    "informed": [{**BACKBONE, "segmentation_settings": {"widths": (4, 6)}}],
    "istn": [{**BACKBONE, "transformer_settings": {"widths": (4, 6)}}],
    "ncr-net": [{"widths": WIDTHS, "outputs": 2}, {"widths": WIDTHS, "head": "displacement"}],
    "shared-encoder": [{"widths": WIDTHS}, {"widths": WIDTHS, "head": "displacement", "segment_moving": False}],
    "shared-unet": [{"widths": WIDTHS}, {"widths": WIDTHS, "head": "time-varying", "segment_moving": True}],
}

Make = Callable[[int], JointNet]


def _makes() -> Iterator[Any]:
    """Every network, narrow so that the suite stays quick; a new one with its own defaults."""
    for name in JOINT_NETS:
        for index, settings in enumerate(SMALL.get(name, [{}])):
            yield pytest.param((name, settings), id=f"{name}-{index}")


@pytest.fixture(params=[2, 3], ids=["2-D", "3-D"])
def ndim(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(params=list(_makes()))
def make(request: pytest.FixtureRequest) -> Make:
    name, settings = request.param

    def build(ndim: int) -> JointNet:
        torch.manual_seed(3)
        return JOINT_NETS[name](ndim, labels=LABELS, **settings)

    return build


def pair(ndim: int, batch: int = 1, shape: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Two images of noise and probabilities for the moving one."""
    generator = torch.Generator().manual_seed(7)
    sides = shape or ODD[ndim]
    images = torch.rand(2, batch, 1, *sides, generator=generator)
    return images[0], images[1], torch.rand(batch, LABELS, *sides, generator=generator).mul(4).softmax(1)


def awake(net: JointNet) -> JointNet:
    """The network with last layers as large as a trained one's: it moves things by about a voxel."""
    torch.manual_seed(5)
    for parameter in net.parameters():
        if 0 < parameter.detach().abs().max() < 1e-3:
            nn.init.normal_(parameter, std=0.03)
    return net


def parts(said: Joint) -> list[Tensor]:
    """All fields and logits of an answer."""
    registered = said.registered
    own = [registered.displacement_vox, registered.velocity_vox, said.fixed_logits, said.moving_logits, said.foreign]
    levels = [level.displacement_vox for level in registered.levels]
    return [part for part in own if part is not None] + levels + list(said.foreign_levels)


@pytest.mark.parametrize("known", [True, False], ids=["labels", "no-labels"])
def test_an_untrained_network_says_no_displacement_and_logits_of_every_label(
    make: Make, ndim: int, known: bool
) -> None:
    fixed, moving, labels = pair(ndim, batch=2)
    said = make(ndim)(fixed, moving, labels if known else None, inverse=True)
    assert said.registered.displacement_vox.shape == (2, ndim, *ODD[ndim])
    assert said.registered.displacement_vox.abs().max() < 0.02
    assert all(level.displacement_vox.abs().max() < 0.02 for level in said.registered.levels)
    for logits in (said.fixed_logits, said.moving_logits):
        assert logits is None or logits.shape == (2, LABELS, *ODD[ndim])
    if said.foreign is not None:
        assert said.foreign.shape == (2, 1, *ODD[ndim])
        assert said.foreign.sigmoid().max() < 0.1
    assert all(part.dtype == torch.float32 and part.isfinite().all() for part in parts(said))


@pytest.mark.parametrize("side", [1, 2, 5])
def test_any_size_will_do(make: Make, ndim: int, side: int) -> None:
    for shape in ((side, *[6, 3][: ndim - 1]), (side,) * ndim):
        said = awake(make(ndim)).train()(*pair(ndim, shape=shape), inverse=True)
        assert said.registered.displacement_vox.shape == (1, ndim, *shape)
        assert said.fixed_logits.shape == (1, LABELS, *shape)
        assert all(part.isfinite().all() for part in parts(said))


def test_every_parameter_has_a_gradient(make: Make, ndim: int) -> None:
    net = awake(make(ndim)).train()
    fixed, moving, labels = pair(ndim, batch=2)
    said = net(fixed, moving, labels)
    assert said.registered.displacement_vox.abs().max() > 0.02
    moved = warp(moving, said.registered.displacement_vox)
    kept = 1 if said.foreign is None else 1 - said.foreign.sigmoid()
    loss = (kept * (moved - fixed).square()).mean() - (said.fixed_logits.log_softmax(1)[:, 1]).mean()
    extra = [said.moving_logits, *said.foreign_levels, *[level.displacement_vox for level in said.registered.levels]]
    (loss + sum(part.square().mean() for part in extra if part is not None)).backward()
    without = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


def test_both_images_count(make: Make, ndim: int) -> None:
    fixed, moving, _ = pair(ndim)
    images = [fixed.requires_grad_(), moving.requires_grad_()]
    awake(make(ndim))(*images).registered.displacement_vox.square().sum().backward()
    assert all(image.grad is not None and image.grad.abs().max() > 0 for image in images)


def test_the_moving_labels_count(make: Make, ndim: int) -> None:
    fixed, moving, labels = pair(ndim)
    said = awake(make(ndim))(fixed, moving, labels.requires_grad_())
    (said.registered.displacement_vox.square().sum() + said.fixed_logits.square().sum()).backward()
    assert labels.grad is not None
    assert (labels.grad.abs().amax((0, *range(2, labels.ndim))) > 0).sum() >= LABELS - 1


def test_each_segmentation_follows_its_own_image(make: Make, ndim: int) -> None:
    fixed, moving, labels = pair(ndim)
    images = [fixed.requires_grad_(), moving.requires_grad_()]
    said = awake(make(ndim))(*images, labels)
    for image, logits in zip(images, (said.fixed_logits, said.moving_logits), strict=True):
        if logits is not None:
            (gradient,) = torch.autograd.grad(logits.square().sum(), image, retain_graph=True)
            assert gradient.abs().max() > 0


def test_a_batch_says_what_its_pairs_say_alone(make: Make, ndim: int) -> None:
    net, given = awake(make(ndim)).eval(), pair(ndim, batch=3)
    together = parts(net(*given))
    for i in range(3):
        alone = parts(net(*(x[i : i + 1] for x in given)))
        for ours, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(ours[i : i + 1], theirs, atol=1e-4, rtol=1e-3)


def test_a_seed_fixes_weights_and_answer(make: Make, ndim: int) -> None:
    one, two = make(ndim), make(ndim)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    given = pair(ndim)
    assert all(torch.equal(a, b) for a, b in zip(parts(one(*given)), parts(two(*given)), strict=True))


@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_bfloat16_says_nearly_the_same_in_float32(make: Make, ndim: int, how: str) -> None:
    net, given = awake(make(ndim)).eval(), pair(ndim)
    exact = parts(net(*given))
    if how == "weights":
        net = net.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        rough = parts(net(*given))
    for ours, theirs in zip(rough, exact, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).square().mean().sqrt() < 1e-3 + 0.08 * theirs.square().mean().sqrt()


def test_levels_are_cells_of_the_image_and_doubts_lie_on_them(make: Make, ndim: int) -> None:
    said = awake(make(ndim))(*pair(ndim))
    for level in said.registered.levels:
        coarse = level.displacement_vox.shape[2:]
        assert any(coarse == tuple(-(-side // f) for side in ODD[ndim]) for f in (1, 2, 4, 8, 16))
    if said.foreign is None:
        assert said.foreign_levels == ()
        return
    grids = [level.displacement_vox.shape[2:] for level in said.registered.levels]
    assert [doubt.shape[2:] for doubt in said.foreign_levels] == grids
    factor = 1 if grids[-1] == ODD[ndim] else 2
    assert torch.equal(said.foreign, refine(said.foreign_levels[-1], [factor] * ndim, ODD[ndim]))


def test_a_cheap_inverse_undoes_the_displacement(make: Make, ndim: int) -> None:
    said = awake(make(ndim))(*pair(ndim, shape={2: (32, 28), 3: (16, 16, 14)}[ndim]), inverse=True).registered
    if said.inverse_displacement_vox is None:
        assert said.velocity_vox is None
        return
    there, inner = said.displacement_vox, (..., *[slice(3, -3)] * ndim)
    rest = compose(there, said.inverse_displacement_vox)
    assert rest[inner].square().mean() < 0.1 * there[inner].square().mean()


def test_a_few_steps_teach_both_tasks(make: Make) -> None:
    """A pair whose moving image is the fixed one shifted; the structure is where it is bright."""
    fixed = gaussian(torch.randn(1, 1, 28, 24, generator=torch.Generator().manual_seed(2)), [3.0, 3.0])
    fixed = fixed / fixed.abs().max()
    fixed_labels = 1 + (fixed[:, 0] > 0.2).long()
    moving, moving_labels = (torch.roll(x, (2, -1), (-2, -1)) for x in (fixed, fixed_labels))
    known = functional.one_hot(moving_labels, LABELS).movedim(-1, 1).float()
    net = make(2)
    optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)

    def losses() -> tuple[Tensor, Tensor]:
        said, inner = net(fixed, moving, known), (..., slice(4, -4), slice(4, -4))
        error = warp(moving, said.registered.displacement_vox) - fixed
        both = [said.fixed_logits[inner]], [fixed_labels[inner]]
        if said.moving_logits is not None:
            both = [*both[0], said.moving_logits[inner]], [*both[1], moving_labels[inner]]
        segmentation = functional.cross_entropy(torch.cat(both[0]), torch.cat(both[1]))
        return error[inner].square().mean() / fixed[inner].square().mean(), segmentation

    before = losses()
    for _ in range(40):
        optimiser.zero_grad()
        sum(losses()).backward()
        optimiser.step()
    for was, now in zip(before, losses(), strict=True):
        assert now < 0.5 * was


@pytest.mark.parametrize(
    ("fixed", "moving", "labels", "rule"),
    [
        ((1, 1, 8, 8, 8), (1, 1, 8, 8, 7), None, "shape of fixed"),
        ((1, 2, 8, 8, 8), (1, 2, 8, 8, 8), None, r"must be \(batch, 1"),
        ((1, 1, 8, 8), (1, 1, 8, 8), None, "with 3 sides"),
        ((1, 1, 8, 8, 8), (1, 1, 8, 8, 8), (1, 2, 8, 8, 8), r"moving_labels must be \(1, 3, 8, 8, 8\)"),
        ((2, 1, 8, 8, 8), (2, 1, 8, 8, 8), (1, 3, 8, 8, 8), r"moving_labels must be \(2, 3, 8, 8, 8\)"),
    ],
)
def test_what_does_not_fit_is_refused(
    fixed: tuple[int, ...], moving: tuple[int, ...], labels: tuple[int, ...] | None, rule: str
) -> None:
    net = JOINT_NETS["shared-unet"](3, labels=LABELS, widths=WIDTHS)
    with pytest.raises(ValueError, match=rule):
        net(torch.zeros(fixed), torch.zeros(moving), None if labels is None else torch.zeros(labels))


@pytest.mark.parametrize(("ndim", "labels", "rule"), [(4, 3, "ndim must be 2 or 3"), (3, 1, "at least 2")])
def test_other_spaces_and_no_structure_are_refused(ndim: int, labels: int, rule: str) -> None:
    for name in JOINT_NETS:
        with pytest.raises(ValueError, match=rule):
            JOINT_NETS[name](ndim, labels=labels)
