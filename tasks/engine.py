"""The registration engine of the settings: options, network and label maps are checked before anything starts."""

from pathlib import Path

from covoxel.io.formats import READ_SUFFIXES
from covoxel.registration import ENGINES, takes
from tasks.components import check_component
from tasks.models import ModelError, load_model
from tasks.settings import RegisterSettings, SettingsError, require

LABELS = "labels"
"""What drives an engine that is given label maps."""


def check_engine(settings: RegisterSettings, output: Path) -> None:
    """Refuse an engine that could not run.

    Parameters
    ----------
    settings
        What is asked for.
    output
        The output folder, in which no label map that drives a registration may lie.

    Raises
    ------
    SettingsError
        If the engine or an option is unknown, its network is missing, of no use to it or cannot be loaded, or label
        maps are asked for and not named, named and of no use, or not there.
    """
    check_component(ENGINES, settings.engine, settings.options, "register", "engine")
    _check_model(settings)
    _check_labels(settings, output)


def _check_model(settings: RegisterSettings) -> None:
    name, folder = settings.engine, settings.model
    if not takes(name, "model"):
        require(folder is None, f"register.model = {str(folder)!r} is wrong: the engine {name} takes no network")
        return
    if folder is None:
        raise SettingsError(f"settings: register.model is missing: the engine {name} needs the folder of a network")
    try:
        load_model(folder, "cpu")
    except ModelError as error:
        raise SettingsError(f"settings: register.model: {error}") from None


def _check_labels(settings: RegisterSettings, output: Path) -> None:
    name, folder, drive = settings.engine, settings.labels, settings.options.get("drive")
    if folder is None:
        require(
            drive != LABELS, "register.labels is missing: drive = 'labels' needs the folder of predicted label maps"
        )
        return
    place = f"register.labels = {str(folder)!r} is wrong"
    require(takes(name, "fixed_labels"), f"{place}: labels do not drive the engine {name}")
    require(drive in (None, LABELS), f"{place}: drive = {drive!r} makes no use of label maps")
    require(folder.is_dir(), f"{place}: there is no such folder")
    require(
        output.absolute() not in (folder, *folder.parents),
        f"{place}: it lies in the output folder, so that results would drive the registrations they come from",
    )


def label_map_of(folder: Path, case: str) -> Path | None:
    """Predicted label map of a case, if the folder has one."""
    return next((path for path in (folder / f"{case}{suffix}" for suffix in READ_SUFFIXES) if path.is_file()), None)
