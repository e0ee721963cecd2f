"""Scratch: parts come back as they went in, wherever they lie, and nothing is left behind."""

from pathlib import Path

import pytest
import torch

from covoxel.io.scratch import Scratch


@pytest.mark.parametrize("in_memory", [0, 2**20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int16, torch.bool])
def test_parts_come_back(tmp_path: Path, in_memory: int, dtype: torch.dtype) -> None:
    values = torch.randint(0, 2, (9, 8, 7)).to(dtype)
    with Scratch(tmp_path / "new", in_memory=in_memory) as scratch:
        array = scratch.array((9, 8, 7), dtype)
        assert not array.read((slice(0, 9),)).any()
        for start in range(0, 9, 2):
            array.write((slice(start, start + 2),), values[start : start + 2])
        assert torch.equal(array.read((slice(2, 7), slice(1, 5), slice(0, 7))), values[2:7, 1:5])
        voxels = torch.tensor([[0, 0, 0], [8, 7, 6], [3, 2, 5]])
        assert torch.equal(array.at(voxels), values[voxels[:, 0], voxels[:, 1], voxels[:, 2]])
        part = array.read(())
        part[:] = 0  # a copy
        assert torch.equal(array.read(()), values)
        assert (scratch.bytes_on_disk > 0) == (in_memory == 0)
    assert not list(tmp_path.glob("new/*"))


def test_what_does_not_fit_into_memory_lies_on_the_disk_until_the_work_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with Scratch(tmp_path, in_memory=100) as scratch:
            scratch.array((60,), torch.uint8)
            assert list(tmp_path.iterdir()) == []
            scratch.array((60,), torch.uint8)
            assert scratch.bytes_on_disk == 60
            assert len(list(tmp_path.glob("*/*.raw"))) == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []
