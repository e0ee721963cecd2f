"""The environment Prefect runs in: no telemetry, quiet, its state in one folder; set before Prefect is imported."""

import os
from pathlib import Path

from flows.proxies import go_past_proxies
from flows.secret import CLIENT, SERVER
from flows.state import can_write, home_folder, state_folder

NO_PAGE = "COVOXEL_NO_PREFECT_PAGE"

_TELEMETRY_OFF = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
_DEFAULTS = {"PREFECT_RESULTS_DEFAULT_SERIALIZER": "json", "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore"}
_QUIET = {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_ROOT_LEVEL": "CRITICAL",
    "PREFECT_INTERNAL_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
}
_CACHES = {
    "XDG_CACHE_HOME": "",
    "MPLCONFIGDIR": "matplotlib",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
    "TRITON_CACHE_DIR": "triton",
}
"""Variables by which libraries are given a folder for their caches."""


def prepare_environment() -> None:
    """Set what Prefect reads from the environment; telemetry is always off, the rest only where the user is silent.

    Raises
    ------
    StateFolderError
        If Prefect's state can be kept nowhere.
    """
    state = state_folder()
    os.environ.update(_TELEMETRY_OFF | {"PREFECT_HOME": str(state)})
    for name, value in {**_DEFAULTS, **_QUIET}.items():
        os.environ.setdefault(name, value)
    go_past_proxies(os.environ.get("PREFECT_API_URL"))
    _do_without_home(state)


def _do_without_home(state: Path) -> None:
    """Let libraries keep their caches in the folder of the state, where they cannot be kept at home."""
    home = home_folder()
    if home is not None and can_write(home):
        return
    if home is None:
        os.environ["HOME"] = str(state)
    for name, folder in _CACHES.items():
        os.environ.setdefault(name, str(state / "cache" / folder))


def child_environment(**extra: str) -> dict[str, str]:
    """Environment of a server or worker that logs as Prefect does by default, for the checkout we run from."""
    inherited = {name: value for name, value in os.environ.items() if name not in _QUIET}
    places = {"PREFECT_HOME": str(state_folder()), "COVOXEL_ROOT": str(Path(__file__).resolve().parents[1])}
    return {**inherited, **_DEFAULTS, **_TELEMETRY_OFF, **places, **extra}


def server_settings(url: str, secret: str) -> dict[str, str]:
    """Settings of a server of ours: it asks for a secret, and its page asks nobody else and advertises nothing."""
    page = url.removesuffix("/api")
    return {
        SERVER: secret,
        CLIENT: secret,
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": page,
        "PREFECT_SERVER_API_BASE_PATH": "/api",
        "PREFECT_SERVER_UI_API_URL": "/api",
        "PREFECT_SERVER_UI_SERVE_BASE": "/",
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }


def has_page() -> bool:
    """Whether there is a server whose page somebody may look at."""
    return NO_PAGE not in os.environ
