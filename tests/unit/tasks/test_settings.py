"""Settings: one YAML file, and one clear sentence for whatever is wrong in it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from tasks.components import check_component
from tasks.settings import FewShotSettings, SettingsError
from tasks.settings_file import default_yaml, load_settings


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(text)
        return path

    return write


def test_a_file_changes_what_it_names_and_nothing_else(write: Callable[[str], Path]) -> None:
    settings = load_settings(write("register:\n  engine: affine\n  options: {dof: rigid}\nfuse:\n"))
    assert settings.register_.engine == "affine"
    assert settings.register_.options == {"dof": "rigid"}
    assert settings.fuse == FewShotSettings().fuse
    assert load_settings(None) == load_settings(write("")) == FewShotSettings()


def test_the_printed_defaults_are_the_defaults() -> None:
    assert FewShotSettings.model_validate(yaml.safe_load(default_yaml())) == FewShotSettings()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("register: {engin: svf}", "unknown key register.engin; the nearest known key is register.engine"),
        ("regster: {}", "unknown key regster; the nearest known key is register"),
        ("preprocess: {spacing_mm: -1}", "preprocess.spacing_mm = -1 is wrong: input should be greater than 0"),
        ("preprocess: {bias: 7}", "preprocess.bias = 7 is wrong"),
        ("fuse: majority", "fuse = 'majority' is wrong"),
        ("fuse: {calibrate_on: 1}", "fuse.calibrate_on = 1 is wrong: input should be greater than or equal to 2"),
        ("- a\n- b", "a mapping of sections is expected, got a list"),
        ("a: [", "the file is not valid YAML at line"),
        ("a: !!python/object/apply:os.getcwd []", "the file is not valid YAML"),
        ("[" * 5000, "the file is not valid YAML"),
        ("#" * 1_000_001, "at most 1000000 are read"),
    ],
)
def test_what_is_wrong_is_named(write: Callable[[str], Path], text: str, sentence: str) -> None:
    path = write(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="none.yaml: the file cannot be read: No such file"):
        load_settings(tmp_path / "none.yaml")


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        FewShotSettings().fuse.rule = "other"  # type: ignore[misc]


def component(first: int, *, radius: int = 2, kernel: str = "ssd", device: str = "cpu") -> None:
    """Take options."""


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("known", {"radus": 1}, "unknown key radus; the nearest known key is radius"),
        ("known", {"radius": "wide"}, "radius = 'wide' is wrong"),
        ("known", {"device": "cuda"}, "unknown key device"),
    ],
)
def test_options_are_held_against_the_component(name: str, options: dict[str, object], sentence: str) -> None:
    check_component({"known": component}, "known", {"radius": 1}, "fuse", "rule")
    with pytest.raises(SettingsError) as caught:
        check_component({"known": component}, name, options, "fuse", "rule")
    assert sentence in str(caught.value)


def test_an_unknown_component_is_named_with_the_known_ones() -> None:
    from covoxel.fusion import FUSION_RULES

    with pytest.raises(
        SettingsError, match="fuse.rule = 'vote' is wrong: unknown fusion rule 'vote'; known: .*majority"
    ):
        check_component(FUSION_RULES, "vote", {}, "fuse", "rule")
