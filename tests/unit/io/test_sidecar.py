"""Sidecars lie beside their artifact and say what made it."""

import json
import platform
from pathlib import Path

import pytest
import torch

import covoxel
from covoxel.io import sidecar_path, write_sidecar


@pytest.mark.parametrize(
    ("artifact", "sidecar"),
    [
        ("a/X.nii.gz", "a/X.json"),
        ("X_xfm.h5", "X_xfm.json"),
        ("sub-1.5.nii.gz", "sub-1.5.json"),
        ("v1.2.nii", "v1.2.json"),
        ("net.safetensors", "net.json"),
    ],
)
def test_the_sidecar_has_the_name_of_its_artifact(artifact: str, sidecar: str) -> None:
    assert sidecar_path(Path(artifact)) == Path(sidecar)


def test_a_sidecar_says_what_made_the_artifact(tmp_path: Path) -> None:
    path = write_sidecar(tmp_path / "x.nii.gz", {"image": "ab"}, {"radius": 2}, 1.23456, "cpu")
    assert path == tmp_path / "x.json"
    assert json.loads(path.read_text()) == {
        "inputs": {"image": "ab"},
        "settings": {"radius": 2},
        "seconds": 1.235,
        "device": "cpu",
        "versions": {
            "covoxel": covoxel.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }


def test_an_artifact_is_not_overwritten_by_its_sidecar(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x\.json must not end in \.json"):
        write_sidecar(tmp_path / "x.json", {}, {}, 0, "cpu")
