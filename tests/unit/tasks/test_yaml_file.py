"""YAML of users: what could take a run down is refused within a moment, in a sentence that names the line."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.joint_recipe import load_joint_recipe
from tasks.recipe import load_recipe
from tasks.settings import SettingsError
from tasks.settings_file import load_settings
from tasks.yaml_file import MAX_DEPTH, MAX_NODES, read_yaml

LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30))
MAPS = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 30))


@pytest.mark.parametrize("load", [load_settings, load_recipe, load_joint_recipe])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "line 1 has the anchor &a0; leave it out"),
        (MAPS, "line 1 has the anchor &a0; leave it out"),
        ("report:\n  title: *name\n", "line 2 has the alias *name; write its value out"),
        ("steps: 3\nname: &n x\n", "line 2 has the anchor &n; leave it out"),
        ("fuse:\n  <<: {rule: staple}\n", "line 2 has the merge key <<; write its keys out"),
        ("fuse: {rule: staple}\nfuse: {}\n", "line 2 has the key fuse a second time"),
        ("[" * 400_000, "line 1 is nested more than 20 levels deep"),
        ("{a: " * 200_000, "line 1 is nested more than 20 levels deep"),
        ("".join(f"{' ' * n}a:\n" for n in range(900)), "line 20 is nested more than 20 levels deep"),
        ("a: [" + "1, " * 300_000 + "]", "line 1 has value 20001 of the file; 20000 are read"),
        ("a: " + "x" * 1_000_000, "the file has 1000003 bytes, at most 1000000 are read"),
        ("a: b: c", "the file is not valid YAML at line 1"),
    ],
)
def test_what_could_run_forever_is_refused_at_once(
    tmp_path: Path, load: Callable[[Path], object], text: str, said: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    started = time.perf_counter()
    with pytest.raises(SettingsError) as raised:
        load(path)
    assert str(raised.value).endswith(said)
    assert "mine.yaml" in str(raised.value) or load is not load_settings
    assert time.perf_counter() - started < 10


def test_a_device_is_read_no_further_than_a_file_may_be() -> None:
    with pytest.raises(SettingsError, match="more than 1000000 bytes, at most 1000000 are read"):
        read_yaml(Path("/dev/zero"), "settings")


def test_what_is_within_the_limits_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    nested = "[" * (MAX_DEPTH - 2) + "1" + "]" * (MAX_DEPTH - 2)
    path.write_text(f"deep: {nested}\nwide: [{'1, ' * (MAX_NODES - MAX_DEPTH - 10)}]\ntext: 'a & b, *c <<'\n")
    data = read_yaml(path, "settings")
    assert len(data["wide"]) == MAX_NODES - MAX_DEPTH - 10
    assert data["text"] == "a & b, *c <<"
