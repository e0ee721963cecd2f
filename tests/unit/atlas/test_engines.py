"""Templates in 3-D by a network, and of mixed contrasts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from covoxel.atlas import Placement, Step, TemplateSettings, build_template
from covoxel.atlas.place import place
from covoxel.registration import PairModel
from covoxel.registration.model import Alignment
from covoxel.spatial import Grid, Image

QUICK = TemplateSettings(freedom="similarity", affine_rounds=1, iterations=1, tolerance=0, first=(10,), sharpen=0)


def head(seed: int) -> Image:
    """A soft ellipsoid with a dark core beside its middle; grid and place differ from seed to seed."""
    grid = Grid.from_spacing((18 + seed, 16, 14), (2.0, 2.2, 2.4))
    draw = np.random.default_rng(seed)
    world = grid.to_ras(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)) - draw.uniform(-2, 2, 3)
    values = 1 / (1 + np.exp(6 * (np.linalg.norm(world / [11, 12, 10], axis=-1) - 1)))
    values -= 0.6 / (1 + np.exp(6 * (np.linalg.norm((world - [3, 2, 0]) / 5, axis=-1) - 1)))
    return Image(torch.tensor(values + draw.normal(0, 0.01, grid.shape)).float(), grid)


@pytest.mark.parametrize("alignment", ["centre", "affine"])
def test_a_network_bends_an_image_from_where_the_affine_rounds_have_laid_it(alignment: Alignment) -> None:
    template, image = head(0), head(1)
    says = torch.tensor([0.5, -1.0, 0.25]).view(1, 3, 1, 1, 1)

    def displacement(fixed: Tensor, moving: Tensor) -> Tensor:
        return says.expand(len(moving), 3, *fixed.shape[2:])

    known = np.eye(4)
    known[:3, 3] = (5.0, -3.0, 2.0)
    found = place(
        template,
        image,
        Placement(template.grid, known),
        Step(1, 0),
        TemplateSettings(engine="learned"),
        {"model": PairModel(displacement, alignment=alignment)},
    )
    np.testing.assert_allclose(found.moving_from_template, known, atol=1e-9)
    shift_mm = found.transform().displacement_mm
    assert shift_mm is not None
    np.testing.assert_allclose(shift_mm[:, 9, 8, 7].numpy(), [1.0, -2.2, 0.6], atol=1e-4)


def test_a_template_by_a_network_that_says_nothing_is_the_affine_mean() -> None:
    def still(fixed: Tensor, moving: Tensor) -> Tensor:
        return moving.new_zeros(len(moving), 3, *fixed.shape[2:])

    images = {f"h{seed}": head(seed) for seed in range(3)}
    found = build_template(images, replace(QUICK, engine="learned"), options={"model": PairModel(still)})
    assert not found.left_out
    assert [row.kind for row in found.history] == ["affine", "deform"]
    assert found.history[-1].displacement_mm == 0
    assert found.history[-1].similarity > 0.95


def test_contrasts_may_be_mixed_in_3d() -> None:
    images = {f"h{seed}": head(seed) for seed in range(4)}
    images["h2"] = Image(0.8 - images["h2"].data, images["h2"].grid)
    found = build_template(images, replace(QUICK, contrast="many"))
    assert not found.left_out
    assert min(placement.similarity for placement in found.placements.values()) > 0.9
    assert float(found.image.data.std()) > 0.8 * float(head(0).data.std()), "contrasts do not cancel"
