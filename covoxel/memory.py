"""Main memory that is still free, within the limits of machine, container and process; bytes in words."""

import resource
from pathlib import Path

UNITS = ("", "K", "M", "G", "T", "P")
"""Prefixes of bytes, each 1024 times the one before."""

UNLIMITED = 2**63
"""Answer where nothing limits the memory, or nothing can be found out."""


def available_bytes(root: Path = Path("/")) -> int:
    """Bytes of main memory that this process can still use.

    Parameters
    ----------
    root
        Folder that holds `proc` and `sys`; tests give a folder of their own.

    Returns
    -------
    int
        The smallest of: `MemAvailable` of the machine; what is left in each control group (version 1 and 2) of the
        process and in those above it, where pages of files that can be dropped count as free; what the limit on the
        address space (`ulimit -v`) leaves. `UNLIMITED` if none of them can be read.
    """
    known = [_of_the_machine(root), *_of_the_container(root), _of_the_process(root)]
    return max(0, min(known))


def size_words(count: int) -> str:
    """A number of bytes as people read it: "12.0 GiB", "3.5 MiB", "17 bytes"."""
    power = min(len(UNITS) - 1, max(0, count.bit_length() - 1) // 10)
    return f"{count / 2 ** (10 * power):.1f} {UNITS[power]}iB" if power else f"{count} bytes"


def _of_the_machine(root: Path) -> int:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return UNLIMITED


def _of_the_container(root: Path) -> list[int]:
    """What is left in the control groups of this process, from its own to the outermost."""
    left = []
    for line in _text(root / "proc/self/cgroup").splitlines() or ["0::/"]:
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if controllers == "":
            folder, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            folder = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = Path(path.strip("/"))
        left += [_of_a_group(folder / part, *names) for part in (own, *own.parents)]
    return left


def _of_a_group(folder: Path, limit: str, used: str, reclaimable: str) -> int:
    try:
        bound, taken = int(_text(folder / limit)), int(_text(folder / used))
    except ValueError:  # no such file, or the word "max"
        return UNLIMITED
    for line in _text(folder / "memory.stat").splitlines():
        if line.split()[:1] == [reclaimable]:
            taken -= int(line.split()[1])
    return bound - max(0, taken)


def _of_the_process(root: Path) -> int:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    pages = _text(root / "proc/self/statm").split()
    if limit == resource.RLIM_INFINITY or not pages:
        return UNLIMITED
    return limit - int(pages[0]) * resource.getpagesize()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
