"""Our names are ours, and the wheel ships `covoxel` alone with all its data files."""

import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("flows", "tasks", "nets", "data_catalog", "covoxel")


@pytest.mark.parametrize("name", NAMES)
def test_our_names_are_ours(name: str, tmp_path: Path) -> None:
    """From another folder a foreign `tasks` in site-packages would win over the checkout."""
    try:
        distribution("covoxel")
    except PackageNotFoundError:
        pytest.skip("covoxel is not installed in this environment")
    code = f"import importlib.util as u; print(u.find_spec({name!r}).origin)"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=tmp_path, env={}, check=True, capture_output=True, text=True).stdout.strip()
    assert Path(found).is_relative_to(ROOT)


def test_the_wheel_is_covoxel_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    on_disk = {str(path.relative_to(ROOT)) for path in (ROOT / "covoxel").rglob("*") if path.is_file()}
    assert shipped == {name for name in on_disk if "__pycache__" not in name}
