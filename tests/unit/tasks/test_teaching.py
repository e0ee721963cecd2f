"""Label maps that teach a network: brought onto the images' grids, unfit ones left out."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from covoxel.io import read_labels, write_labels
from covoxel.spatial import Grid, Image
from covoxel.training.registration import Recipe
from tasks.same_labels import content_of
from tasks.settings import Precision, SettingsError, TrainSettings
from tasks.teaching import check_training, lesson_of

GRID = Grid.from_spacing((8, 8, 8), 2.0)
FINE = GRID.with_spacing(1.0)


def ball(value: int, grid: Grid = GRID) -> Image:
    """A cube of one value in the middle."""
    data = torch.zeros(grid.shape, dtype=torch.int64)
    data[tuple(slice(side // 4, 3 * side // 4) for side in grid.shape)] = value
    return Image(data, grid)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Image], Path]:
    def write(name: str, labels: Image) -> Path:
        path = tmp_path / f"{name}.nii.gz"
        write_labels(path, labels)
        return path

    return write


Write = Callable[[str, Image], Path]


def image(grid: Grid = GRID) -> Image:
    return Image(torch.zeros(grid.shape), grid)


def test_labels_are_places_among_the_values_of_the_atlases_on_the_grid_of_the_image(write: Write) -> None:
    drawn = {"a1": write("a1", ball(17)), "a2": write("a2", ball(3))}
    predicted = {"c1": write("c1", ball(17, FINE))}
    lesson = lesson_of(drawn, predicted, {"a1": image(), "a2": image(), "c1": image()})
    assert lesson.values == [0, 3, 17]
    for case, place in (("a1", 2), ("a2", 1), ("c1", 2)):
        assert torch.equal(lesson.places[case].data, ball(place).data), case
    files = (*drawn.values(), *predicted.values())
    assert lesson.contents == [content_of(read_labels(path)) for path in files], "of the files, not as resampled"
    assert lesson.left_out == {}


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (ball(4), "it has the value 4, which no atlas has"),
        (ball(0), "it has no structure where the image is"),
        (ball(3, GRID.cropped((500, 0, 0), GRID.shape)), "it has no structure where the image is"),
        (ball(3, Grid.from_spacing((8, 8))), "it is 2-D and the image 3-D"),
        (None, "c1.nii.gz"),
    ],
    ids=["value", "empty", "elsewhere", "dimensions", "broken"],
)
def test_a_predicted_label_map_that_does_not_fit_is_left_out(write: Write, labels: Image | None, reason: str) -> None:
    path = write("c1", labels or ball(3))
    if labels is None:
        path.write_bytes(path.read_bytes()[:20])
    lesson = lesson_of({"a1": write("a1", ball(3))}, {"c1": path}, {"a1": image(), "c1": image()})
    assert set(lesson.places) == {"a1"}
    assert len(lesson.contents) == 1
    assert lesson.left_out["c1"].startswith("its predicted label map does not teach: ")
    assert reason in lesson.left_out["c1"]


def test_a_label_map_of_an_atlas_that_is_broken_is_an_error(write: Write) -> None:
    path = write("a1", ball(3))
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match="a1"):
        lesson_of({"a1": path}, {}, {"a1": image()})


@pytest.mark.parametrize(
    ("devices", "precision", "sentence"),
    [
        (1, "16-mixed", None),
        (3, "bf16-mixed", None),
        (4, "32-true", "train.devices = 4 is wrong: this machine has 3"),
        (5, "32-true", "train.devices = 5 is wrong: the recipe mine has 4 pairs in a batch to share"),
    ],
)
def test_as_many_gpus_as_there_are_share_a_batch(
    monkeypatch: pytest.MonkeyPatch, devices: int, precision: Precision, sentence: str | None
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    recipe, settings = Recipe("mine", "A test.", "x", 9), TrainSettings(devices=devices, precision=precision)
    if sentence is None:
        check_training(settings, recipe, [], "cuda")
        return
    with pytest.raises(SettingsError, match=sentence):
        check_training(settings, recipe, [], "cuda")
