"""Checkpoints: what cannot be read is named, and memory that ends is not taken for a damaged file."""

from pathlib import Path

import pytest
import torch

from covoxel.training.checkpoint import load_checkpoint, save_checkpoint


@pytest.mark.parametrize(
    "error", [RuntimeError("can't allocate memory: you tried to allocate 8 bytes."), MemoryError("none left")]
)
def test_memory_that_ends_is_not_a_damaged_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = tmp_path / "state.pt"
    save_checkpoint(path, {"done": 3}, {"weights": torch.ones(2)})
    assert load_checkpoint(path)[0] == {"done": 3}

    def fail(*given: object, **named: object) -> None:
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(type(error), match=str(error)):
        load_checkpoint(path)


def test_a_foreign_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    torch.save({"other": 1}, path)
    with pytest.raises(ValueError, match=r"state\.pt is no checkpoint of a training"):
        load_checkpoint(path)
