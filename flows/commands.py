"""What each verb of the command line does: check the call, run the flow, say how it ended, choose the exit status."""

import logging
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows import interrupt
from flows.environment import prepare_environment
from flows.state import StateFolderError

if TYPE_CHECKING:
    from tasks.call import Call
    from tasks.settings import FewShotSettings
    from tasks.study import Study
    from tasks.summary import Summary

log = logging.getLogger(__name__)

DONE, OTHER, WRONG_CALL = 0, 1, 2
REASONS_SHOWN = 20
ASKED_BESIDE = ("rule", "correct", "route", "segmenter", "by", "at", "participants")
"""What the command line asks for beside the file of settings."""
NO_ATLAS_NEEDED = ("preprocess", "build-atlas", "train-registration", "train-joint")


def say(text: str) -> None:
    """Write a line to standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    """Write a line about something wrong to standard error."""
    sys.stderr.write(f"{text}\n")


def run_call(verb: str, settings: Path | None, asked: dict[str, Any]) -> int:
    """Run the flow of a verb and return the exit status of the command."""
    return _guarded(lambda: _run(verb, settings, asked))


def run_stage(verb: str, settings: Path | None, asked: dict[str, Any]) -> int:
    """Run the flow of one stage alone, by the last call of the output folder where the call is silent."""

    def run() -> int:
        from tasks.last_call import last_call

        if "cohort" in asked and "atlases" in asked:
            return _run(verb, settings, asked)
        last = last_call(asked["output"].expanduser().absolute())
        kept = {name: getattr(last, name) for name in ("cohort", "atlases", "evaluate", "cases")}
        return _run(verb, settings, kept | asked, last.settings)

    return _guarded(run)


def run_demo(output: Path, cases: int, settings: Path | None, device: str, workers: int | None) -> int:
    """Make the synthetic cohort, run `few-shot` on it and return the exit status."""

    def run() -> int:
        from tasks.demo import demo_call
        from tasks.settings_file import load_settings

        asked = demo_call(output.expanduser().absolute()) | {"device": device, "workers": workers}
        parameters = {
            "output": output.expanduser().absolute(),
            "cases": cases,
            "settings": load_settings(settings),
            "device": device,
            "workers": workers,
        }
        return _run("demo", settings, asked, demo=parameters)

    return _guarded(run)


def show_status(output: Path) -> int:
    """Print the state of each case of a run."""

    def run() -> int:
        from tasks.status import status_lines

        for line in status_lines(output.expanduser().absolute()):
            say(line)
        return DONE

    return _guarded(run)


def deploying(stop: bool, worker: bool, port: int | None) -> int:
    """Set up, or stop, the Prefect server, its pools, its worker and the deployments."""

    def run() -> int:
        from flows.deploy import deploy, stop_all

        return stop_all(say) if stop else deploy(say, with_worker=worker, port=port)

    return _guarded(run)


def _run(
    verb: str,
    settings_file: Path | None,
    asked: dict[str, Any],
    defaults: "FewShotSettings | None" = None,
    demo: dict[str, Any] | None = None,
) -> int:
    from pydantic import ValidationError

    from tasks.call import Call, CallError
    from tasks.settings_file import asked_for, explain, load_settings

    settings = defaults if settings_file is None and defaults is not None else load_settings(settings_file)
    settings = asked_for(settings, **{name: asked.pop(name) for name in ASKED_BESIDE if name in asked})
    try:
        call = Call(settings=settings, **asked)
    except ValidationError as error:
        raise CallError(explain(error, Call)) from None
    _log_to_stderr()
    with ExitStack() as stack:
        summary = None
        if demo is None and _may_be_done(call):
            summary = _finish_if_done(call, verb, stack)
        if summary is None:
            summary = _run_flow(call, verb, stack, demo)
    return _tell(summary)


def _may_be_done(call: "Call") -> bool:
    """Whether it is worth a look if there is nothing to do: a run was here, and no page shall show this one."""
    from tasks.layout import Layout

    return "PREFECT_API_URL" not in os.environ and Layout(call.output).call.is_file()


def _finish_if_done(call: "Call", verb: str, stack: ExitStack) -> "Summary | None":
    """Do without flows and server what is to do when nothing is to be computed."""
    from tasks.longitudinal_stages import finish_longitudinal
    from tasks.rerun import finish_if_done
    from tasks.study import Study

    study = _open(call, verb, stack)
    if verb == "longitudinal":
        summary = finish_longitudinal(Study(study.call, study.cohort))
    else:
        summary = finish_if_done(study, verb)
    if summary is not None:
        log.info("nothing to compute: all was done before")
    return summary


def _run_flow(call: "Call", verb: str, stack: ExitStack, demo: dict[str, Any] | None) -> "Summary":
    from flows.server import prefect_server

    wait_for_server = stack.enter_context(prefect_server())
    if demo is None:
        _open(call, verb, stack)
    flow = _flow(verb)
    wait_for_server()
    return _call_flow(flow, _parameters(call) if demo is None else demo)


def _open(call: "Call", verb: str, stack: ExitStack) -> "Study":
    """Hold the output folder and look at cohort, atlases and settings before Prefect is asked to do anything."""
    from tasks.study import open_study

    return stack.enter_context(open_study(call, needs_atlases=verb not in NO_ATLAS_NEEDED))


def _flow(verb: str) -> Callable[..., "Summary"]:
    module = verb.replace("-", "_")
    flow: Callable[..., Summary] = getattr(import_module(f"flows.{module}"), module)
    return flow


def _call_flow(flow: Callable[..., "Summary"], parameters: dict[str, Any]) -> "Summary":
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.environment import has_page

    if has_page():
        return flow(**parameters)
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):  # nobody listens, and each flow waits for it
        return flow(**parameters)


def _parameters(call: "Call") -> dict[str, Any]:
    from flows.study_flow import call_parameters

    return call_parameters(call)


def _tell(summary: "Summary") -> int:
    for case, reason in list(summary.reasons.items())[:REASONS_SHOWN]:
        complain(f"{case}: {reason}")
    if len(summary.reasons) > REASONS_SHOWN:
        complain(f"and {len(summary.reasons) - REASONS_SHOWN} more, see cases.tsv")
    for line in summary.lines:
        say(line)
    return summary.exit_status


def _guarded(command: Callable[[], int]) -> int:
    """Exit status of a command; what goes wrong becomes one sentence."""
    try:
        prepare_environment()
        return command()
    except BaseException as error:
        if interrupt.stopping.is_set() or (interrupt.is_listening() and not isinstance(error, Exception)):
            interrupt.leave(interrupt.INTERRUPTED)  # what is raised now is but an echo
        return _explained(error)


def _explained(error: BaseException) -> int:
    """Say in one sentence what went wrong; the exit status."""
    from flows.secret import SecretError
    from flows.server import ServerError
    from tasks.call import CallError, NothingDoneError
    from tasks.settings import SettingsError

    if isinstance(error, CallError | SettingsError | StateFolderError | SecretError):
        complain(f"error: {error}")
        return WRONG_CALL
    if isinstance(error, ServerError | NothingDoneError):
        complain(f"error: {error}")
    elif isinstance(error, OSError):
        complain(f"error: {error.filename or 'a file'}: {error.strerror or error}; what is finished is kept")
    elif isinstance(error, KeyboardInterrupt):
        complain(interrupt.INTERRUPTED)
    elif isinstance(error, Exception):
        complain("".join(traceback.format_exception(error)))
        complain(f"error: {_unforeseen(error)}; what is finished is kept")
    else:
        raise error
    return OTHER


def _unforeseen(error: Exception) -> str:
    from covoxel.memory_errors import is_out_of_memory, memory_sentence

    return memory_sentence(error) if is_out_of_memory(error) else f"unexpected {type(error).__name__}: {error}"


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    for name in ("flows", "tasks", "covoxel", "data_catalog"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO if name == "flows" else logging.WARNING)
        logger.handlers[:] = [handler]
        logger.propagate = False
