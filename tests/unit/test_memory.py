"""Free memory is the smallest of what the machine, each control group and the process leave."""

import resource
from pathlib import Path

import pytest

from covoxel.memory import UNLIMITED, available_bytes, size_words

GIB = 2**30


def system(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": f"MemFree: 1 kB\nMemAvailable: {8 * 2**20} kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_limits_the_machine_counts(tmp_path: Path) -> None:
    assert available_bytes(system(tmp_path, {})) == 8 * GIB


def test_the_group_above_may_be_the_narrower_one(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/b/memory.max": "max\n",
        "sys/fs/cgroup/a/b/memory.current": f"{GIB}\n",
        "sys/fs/cgroup/a/memory.max": f"{4 * GIB}\n",
        "sys/fs/cgroup/a/memory.current": f"{3 * GIB}\n",
    }
    assert available_bytes(system(tmp_path, files)) == GIB
    files["sys/fs/cgroup/a/memory.stat"] = f"anon 5\ninactive_file {GIB}\n"
    assert available_bytes(system(tmp_path, files)) == 2 * GIB


def test_version_1_counts_the_memory_controller_alone(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "8:pids:/x\n5:memory:/docker/abc\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",  # a container sees its own group at the root
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB // 2}\n",
        "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {GIB // 4}\n",
    }
    assert available_bytes(system(tmp_path, files)) == 2 * GIB - GIB // 4


def test_more_used_than_allowed_is_nothing_left(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/memory.max": "100\n", "sys/fs/cgroup/memory.current": "200\n"}
    assert available_bytes(system(tmp_path, files)) == 0


def test_a_limit_on_the_address_space_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (3 * GIB, 3 * GIB))
    pages = GIB // resource.getpagesize()
    assert available_bytes(system(tmp_path, {"proc/self/statm": f"{pages} 7 7 7 0 7 0\n"})) == 2 * GIB


def test_an_unknown_system_limits_nothing(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) == UNLIMITED
    assert 2**20 < available_bytes() < UNLIMITED


def test_bytes_in_words() -> None:
    assert [size_words(12 * GIB), size_words(int(8.1 * GIB)), size_words(3 * 2**20)] == [
        "12.0 GiB",
        "8.1 GiB",
        "3.0 MiB",
    ]
