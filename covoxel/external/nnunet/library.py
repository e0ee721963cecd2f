"""The installed nnU-Net: found when it is first needed, quiet, and kept away from anybody's folders."""

import contextlib
import importlib.util
import io
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from covoxel.external.nnunet.errors import MissingLibraryError

log = logging.getLogger(__name__)

_FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
_SWITCHES = ("nnUNet_compile", "nnUNet_wandb_enabled", "nnUNet_extTrainer")
_LOCK = threading.RLock()


def require() -> None:
    """See that nnU-Net is there.

    Raises
    ------
    MissingLibraryError
        If it is not.
    """
    if importlib.util.find_spec("nnunetv2") is None:
        raise MissingLibraryError('nnunetv2 is not installed; the extra has it: pip install "covoxel[nnunet]"')


@contextlib.contextmanager
def kept_apart(folder: Path | None = None) -> Iterator[None]:
    """Within this nnU-Net's variables name `folder`, or nothing, and what it prints goes to the log.

    The environment is put back at the end; another thread that wants this waits.
    """
    names = {} if folder is None else {name: str(folder / name) for name in _FOLDERS}
    printed = io.StringIO()
    with _LOCK:
        before = {name: os.environ.pop(name, None) for name in (*_FOLDERS, *_SWITCHES)}
        os.environ.update(names)
        try:
            with contextlib.redirect_stdout(printed):
                yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
    log.debug("nnU-Net said: %s", printed.getvalue().strip())


def managers(plans: Mapping[str, Any], dataset_json: Mapping[str, Any], configuration: str) -> tuple[Any, Any, Any]:
    """nnU-Net's managers of plans, of the configuration and of labels."""
    require()
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(dict(plans))
    return manager, manager.get_configuration(configuration), manager.get_label_manager(dict(dataset_json))
