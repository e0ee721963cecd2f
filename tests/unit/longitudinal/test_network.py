"""Network: it and the fused labels have equal say, all other visits are shown to it, and names do not matter."""

import pytest
import torch
from torch import Tensor

from covoxel.longitudinal import mean_probabilities, network_probabilities
from covoxel.segmentation import PairSegmenter, Segmented
from covoxel.spatial import Grid, Image

GRID = Grid.from_spacing((8, 8), 1.0)
VALUES = torch.tensor([0, 3])


def visits(names: str) -> dict[str, Image]:
    return {
        name: Image(torch.rand(8, 8, generator=torch.Generator().manual_seed(k)), GRID) for k, name in names_of(names)
    }


def names_of(names: str) -> list[tuple[int, str]]:
    return list(enumerate(names))


def half(image: Image) -> Tensor:
    inside = (image.data > 0.5).float()
    return torch.stack([1 - inside, inside])


def test_what_it_says_counts_as_much_as_what_was_fused() -> None:
    images = visits("ab")
    fused = {name: torch.stack([torch.ones(8, 8), torch.zeros(8, 8)]) for name in images}
    found = network_probabilities(
        lambda image: Segmented(GRID, VALUES, half(image), 0.0), images, fused, images["a"], fused["a"], VALUES
    )
    torch.testing.assert_close(found["b"], (fused["b"] + half(images["b"])) / 2)


def test_every_visit_is_shown_beside_the_template_and_all_others_whatever_their_names() -> None:
    shown = []

    def logits(fixed: Tensor, moving: Tensor, labels: Tensor) -> Tensor:
        shown.append(len(moving))
        return 3 * moving * labels + torch.cat([fixed, -fixed], 1)

    network, template = PairSegmenter(logits, (0, 3)), Image(torch.full((8, 8), 0.4), GRID)

    def found(names: str) -> dict[str, Tensor]:
        images = visits(names)
        fused = {name: half(image) for name, image in images.items()}
        said = network_probabilities(network, images, fused, template, half(template), VALUES)
        return said | {"mean": mean_probabilities(said, images)}

    first, other = found("abc"), found("zmc")
    assert sum(shown) == 2 * 3 * 3
    for one, two in (("a", "z"), ("b", "m"), ("c", "c"), ("mean", "mean")):
        torch.testing.assert_close(first[one], other[two], rtol=0, atol=0)


def test_a_network_of_other_labels_is_refused() -> None:
    images = visits("a")
    fused = {"a": half(images["a"])}
    other = Segmented(GRID, torch.tensor([0, 4]), half(images["a"]), 0.0)
    with pytest.raises(ValueError, match=r"must know the labels of the atlases, \[0, 3\], got \[0, 4\]"):
        network_probabilities(lambda image: other, images, fused, images["a"], fused["a"], VALUES)
