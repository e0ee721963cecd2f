"""The last call for an output folder, which `status` and a stage alone go by."""

from pathlib import Path
from typing import Any

from covoxel.io.atomic import write_json
from tasks.call import Call, CallError
from tasks.layout import Layout


def last_call(output: Path) -> Call:
    """The call that was last made for an output folder.

    Raises
    ------
    CallError
        If the folder holds no run.
    """
    try:
        return Call.model_validate_json(Layout(output).call.read_text())
    except (OSError, ValueError):
        raise CallError(f"output {output} holds no run of covoxel; name the --output of one") from None


def remember_call(call: Call) -> None:
    """Make this the last call of its output folder; OSError if the folder cannot be written."""
    content: dict[str, Any] = call.model_dump(mode="json", by_alias=True)
    write_json(Layout(call.output).call, content)
