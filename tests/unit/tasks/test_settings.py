"""Settings: one YAML file, and one clear sentence for whatever is wrong in it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from data_catalog import Case, Cohort, CohortError
from tasks.call import Call
from tasks.components import check_component
from tasks.settings import FewShotSettings, SettingsError
from tasks.settings_file import asked_for, default_yaml, load_settings
from tasks.study_checks import check_call, check_cohort


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
        ("preprocess: {spacing_mm: -1}", "preprocess.spacing_mm = -1 is wrong: it must be greater than 0"),
        ("preprocess: {bias: 7}", "preprocess.bias = 7 is wrong: it must be true or false"),
        ("report: {figures: many}", "report.figures = 'many' is wrong: it must be a whole number"),
        ("atlases: {by: luck}", "atlases.by = 'luck' is wrong: it must be one of '"),
        (f"report: {{title: [{'1, ' * 900}]}}", "… is wrong: it must be text"),
        ("fuse: majority", "fuse = 'majority' is wrong: it must be a mapping of keys"),
        ("fuse: {calibrate_on: 1}", "fuse.calibrate_on = 1 is wrong: it must be 2 or more"),
        ("- a\n- b", "a mapping of sections is expected, got a list"),
        ("a: [", "the file is not valid YAML at line"),
        ("a: !!python/object/apply:os.getcwd []", "the file is not valid YAML"),
        ("[" * 5000, "line 1 is nested more than 20 levels deep"),
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


@pytest.mark.parametrize(("name", "nearest"), [("selectt", "select"), ("majorty", "majority"), ("stapl", "staple")])
def test_a_rule_with_a_typo_lists_select_and_the_nearest(tmp_path: Path, name: str, nearest: str) -> None:
    settings = FewShotSettings.model_validate({"fuse": {"rule": name}})
    call = Call(cohort=tmp_path / "c", output=tmp_path / "o", settings=settings)
    with pytest.raises(SettingsError, match=rf"known: .*majority.*select.*staple; the nearest is {nearest}$"):
        check_call(call)


@pytest.mark.parametrize(
    ("given", "nearest"), [({"route": "templatte"}, "template"), ({"segmenter": "nnunett"}, "nnunet")]
)
def test_a_choice_of_the_command_line_with_a_typo_names_the_nearest(given: dict[str, str], nearest: str) -> None:
    with pytest.raises(SettingsError, match=f"must be one of .*; the nearest is {nearest}$"):
        asked_for(FewShotSettings(), **given)  # type: ignore[arg-type]


def test_the_beginning_of_many_ids_is_not_taken_for_one_of_them() -> None:
    ids = [f"hippo_{n}" for n in range(5)]
    cohort = Cohort("set", Path(), tuple(Case(name, Path(name), None, "unlabelled", name) for name in ids))
    begun = "5 cases begin so: hippo_0, hippo_1, hippo_2 …; name each in full"
    with pytest.raises(CohortError, match=begun):
        check_cohort(cohort, ["hippo"])
    with pytest.raises(CohortError, match="there is no case 'hipo_3' in cohort 'set'; .*hippo_3"):
        check_cohort(cohort, ["hipo_3"])
    check_cohort(cohort, ["hippo_3"])
