"""What all tests share: one thread, fixed seeds, the four orientations, the folder of real data."""

import os
import random
import signal
from pathlib import Path

# Before torch or ITK is imported: pytest-xdist runs one process a core.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

from covoxel.spatial import Grid  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
ORIENTATIONS = ("RAS", "LAS", "LPS", "oblique")
SPACING_MM = (1.0, 1.5, 2.5)
SHAPE = (19, 15, 11)

settings.register_profile("covoxel", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("covoxel")


def pytest_configure() -> None:
    torch.set_num_threads(1)
    # A shell's background job ignores Ctrl-C, and so would every program that the tests start and interrupt.
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def root() -> Path:
    """Folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of real images, `$COVOXEL_DATA`; a test that asks for it is skipped where it is absent."""
    folder = Path(os.environ.get("COVOXEL_DATA", ROOT / "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real data: COVOXEL_DATA names {folder}, which is not a folder")
    return folder


def oriented_grid(orientation: str, shape: tuple[int, ...] = SHAPE) -> Grid:
    """Anisotropic grid whose voxel axes point as `orientation` says and whose middle is near the origin."""
    signs = {"RAS": (1, 1, 1), "LAS": (-1, 1, 1), "LPS": (-1, -1, 1), "oblique": (1, 1, 1)}[orientation]
    linear = np.diag(np.multiply(signs, SPACING_MM)).astype(float)
    if orientation == "oblique":
        linear = _rotation(0.35, -0.5, 0.8) @ linear
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = np.array([3.0, -5.0, 7.0]) - linear @ ((np.array(shape) - 1) / 2)
    return Grid(shape, matrix)


def _rotation(about_r: float, about_a: float, about_s: float) -> np.ndarray:
    """Rotation about the world's three axes in turn, angles in radians."""
    turns = []
    for axis, angle in enumerate((about_r, about_a, about_s)):
        first, second = (n for n in range(3) if n != axis)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        turns.append(turn)
    return turns[2] @ turns[1] @ turns[0]


@pytest.fixture(params=ORIENTATIONS)
def grid(request: pytest.FixtureRequest) -> Grid:
    """Grid of each of the four orientations: anisotropic, three different sides, off the origin."""
    return oriented_grid(request.param)
