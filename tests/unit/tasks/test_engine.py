"""The engine of the settings: without its network, or with one it has no use for, nothing starts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from covoxel.training.registration.recipe import Recipe
from tasks.engine import check_engine, label_map_of
from tasks.models import save_model
from tasks.recipe import build_network
from tasks.settings import RegisterSettings, SettingsError

TINY = {"encoder": [4], "decoder": [4], "half": 4, "last": [4]}
Settings = Callable[..., RegisterSettings]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with paths below a folder that has a network and label maps."""
    recipe = Recipe("tiny", "A test.", "voxelmorph-1", 1, network_settings=TINY)
    save_model(tmp_path / "model", build_network(recipe, 2), recipe)
    (tmp_path / "labels").mkdir()
    (tmp_path / "out" / "segmentations").mkdir(parents=True)

    def make(**given: Any) -> RegisterSettings:
        return RegisterSettings(**{k: tmp_path / v if k in ("model", "labels") else v for k, v in given.items()})

    return make


@pytest.mark.parametrize(
    "given",
    [
        {"engine": "svf"},
        {"engine": "learned", "model": "model"},
        {"engine": "learned+svf", "model": "model", "options": {"drive": "mind", "iterations": [4, 2]}},
        {"engine": "learned+svf", "model": "model", "labels": "labels"},
        {"engine": "learned+svf", "model": "model", "labels": "labels", "options": {"drive": "labels"}},
    ],
)
def test_what_fits_is_let_through(given: dict[str, Any], settings: Settings, tmp_path: Path) -> None:
    check_engine(settings(**given), tmp_path / "out")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"engine": "afine"}, "register.engine = 'afine' is wrong: unknown registration engine"),
        ({"engine": "learned"}, "register.model is missing: the engine learned needs the folder of a network"),
        ({"engine": "svf", "model": "model"}, "the engine svf takes no network"),
        ({"engine": "learned", "model": "none"}, "register.model: model"),
        ({"engine": "learned", "model": "labels"}, "model.json cannot be read"),
        ({"engine": "learned", "model": "model", "options": {"model": "x"}}, "unknown key model"),
        ({"engine": "learned+svf", "model": "model", "options": {"fixed_labels": None}}, "unknown key fixed_labels"),
        ({"engine": "learned", "model": "model", "options": {"alignment": "center"}}, "alignment = 'center' is wrong"),
        ({"engine": "learned+svf", "model": "model", "options": {"drive": "labels"}}, "register.labels is missing"),
        ({"engine": "learned", "model": "model", "labels": "labels"}, "labels do not drive the engine learned"),
        (
            {"engine": "learned+svf", "model": "model", "labels": "labels", "options": {"drive": "mind"}},
            "drive = 'mind' makes no use of label maps",
        ),
        ({"engine": "learned+svf", "model": "model", "labels": "none"}, "there is no such folder"),
        ({"engine": "learned+svf", "model": "model", "labels": "out/segmentations"}, "it lies in the output folder"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    given: dict[str, Any], sentence: str, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as caught:
        check_engine(settings(**given), tmp_path / "out")
    assert str(caught.value).startswith("settings: ")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_keep_their_meaning_in_another_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert RegisterSettings(model=Path("a"), labels=Path("b")).model_dump()["model"] == tmp_path / "a"


def test_a_label_map_is_found_by_the_id_of_its_case(tmp_path: Path) -> None:
    for name in ("c1.nii.gz", "c2.nii", "c3_confidence.nii.gz"):
        (tmp_path / name).touch()
    found = [label_map_of(tmp_path, case) for case in ("c1", "c2", "c3")]
    assert found == [tmp_path / "c1.nii.gz", tmp_path / "c2.nii", None]
