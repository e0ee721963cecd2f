"""One Prefect harness for all flow tests, and tiny cohorts on disk."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from covoxel.io import write_image, write_labels
from covoxel.spatial import Grid, Image

SHAPE = (14, 12, 10)


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[str]:
    """Address of a Prefect server for the whole run; flows of this process and of children use it."""
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    with pytest.MonkeyPatch.context() as patch, _quiet(patch), prefect_test_harness(server_startup_timeout=120):
        url = str(PREFECT_API_URL.value())
        patch.setenv("PREFECT_API_URL", url)
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield url


@contextmanager
def _quiet(patch: pytest.MonkeyPatch) -> Iterator[None]:
    from prefect.settings import PREFECT_SERVER_ANALYTICS_ENABLED, temporary_settings

    patch.setenv("DO_NOT_TRACK", "1")
    patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    patch.setenv("PREFECT_LOGGING_LEVEL", "CRITICAL")
    with temporary_settings({PREFECT_SERVER_ANALYTICS_ENABLED: False}):
        yield


def phantom(seed: int, turned: bool = False, finer: int = 1) -> tuple[Image, Image]:
    """Image and label map of a head of two structures, other ones for each seed; `finer` divides the voxels."""
    generator = np.random.default_rng(seed)
    shape = tuple(side * finer for side in SHAPE)
    spacing = np.array([-2.0, -2.0, 2.5] if turned else [2.0, 2.0, 2.5]) / finer
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = -matrix[:3, :3] @ ((np.array(shape) - 1) / 2)
    grid = Grid(shape, matrix)
    world = grid.to_ras(np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1))
    centre = generator.uniform(-1, 1, 3)
    first = np.linalg.norm((world - centre - [-4, 0, 0]) / [4, 6, 7], axis=-1) < 1
    second = np.linalg.norm((world - centre - [4, 0, 0]) / [4, 5, 6], axis=-1) < 1
    values = 100.0 * first + 60.0 * second + generator.normal(0, 2, shape)
    labels = np.where(first, 3, np.where(second, 17, 0))
    return Image(torch.tensor(values, dtype=torch.float32), grid), Image(torch.tensor(labels), grid)


@pytest.fixture
def make_cohort(tmp_path: Path) -> Callable[..., Path]:
    """Make a cohort `images/` + `labels/` of cases c1, c2 …, the first ones with labels, all with truth in `truth/`."""

    def make(cases: int = 4, labelled: int = 2, name: str = "cohort", finer: int = 1) -> Path:
        folder = tmp_path / name
        for number in range(1, cases + 1):
            image, labels = phantom(number, turned=number % 2 == 0, finer=finer)
            write_image(folder / "images" / f"c{number}.nii.gz", image)
            write_labels(tmp_path / f"{name}-truth" / f"c{number}.nii.gz", labels)
            if number <= labelled:
                write_labels(folder / "labels" / f"c{number}.nii.gz", labels)
        return folder

    return make


@pytest.fixture
def quick_settings(tmp_path: Path) -> Path:
    """Settings of the cheapest engine and rule."""
    path = tmp_path / "quick.yaml"
    path.write_text("register: {engine: identity}\nfuse: {rule: majority}\n")
    return path


def snapshot(folder: Path) -> dict[str, int]:
    """Time of change in ns, by relative path, of all results in a folder."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns
        for part in ("work", "transforms", "segmentations")
        for path in sorted((folder / part).rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def changed() -> Callable[[dict[str, int], Path], set[str]]:
    """Names of the results that are new or other than in a snapshot."""

    def changed(before: dict[str, int], folder: Path) -> set[str]:
        return {name for name, time in snapshot(folder).items() if before.get(name) != time}

    return changed


@pytest.fixture(name="snapshot")
def snapshot_fixture() -> Callable[[Path], dict[str, int]]:
    """Give the function `snapshot`."""
    return snapshot


@pytest.fixture(name="phantom")
def phantom_fixture() -> Callable[..., tuple[Image, Image]]:
    """Give the function `phantom`."""
    return phantom


@pytest.fixture
def invoke(prefect_api: str) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: exit status, standard output, standard error."""
    from typer.testing import CliRunner

    from flows.__main__ import app

    def invoke(*arguments: object) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return result.exit_code, result.stdout, result.stderr

    return invoke
