"""The environment Prefect runs in: no telemetry, quiet, its state in one folder; set before Prefect is imported."""

import os
from pathlib import Path

from flows.secret import CLIENT, SERVER

NO_PAGE = "COVOXEL_NO_PREFECT_PAGE"

_TELEMETRY_OFF = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
_DEFAULTS = {"PREFECT_RESULTS_DEFAULT_SERIALIZER": "json", "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore"}
_QUIET = {"PREFECT_LOGGING_LEVEL": "CRITICAL", "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL"}


def state_folder() -> Path:
    """Folder of Prefect's state: `$PREFECT_HOME`, else `$XDG_STATE_HOME/covoxel/prefect`."""
    if "PREFECT_HOME" in os.environ:
        return Path(os.environ["PREFECT_HOME"]).expanduser()
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "covoxel" / "prefect"


def prepare_environment() -> None:
    """Set what Prefect reads from the environment; telemetry is always off, the rest only where the user is silent."""
    os.environ.update(_TELEMETRY_OFF)
    for name, value in {**_DEFAULTS, **_QUIET, "PREFECT_HOME": str(state_folder())}.items():
        os.environ.setdefault(name, value)


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
