"""How a function of a study becomes a Prefect flow: all flows of a study take the same parameters."""

import inspect
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from prefect import Flow, flow
from prefect.task_runners import ThreadPoolTaskRunner

from tasks.call import MAX_WORKERS, Call, Device, Trains
from tasks.settings import FewShotSettings
from tasks.study import Study, open_study

R = TypeVar("R")


def study_flow(
    name: str,
    needs_atlases: bool = True,
    trains: Trains | None = None,
    builds_atlas: bool = False,
    follows: bool = False,
) -> Callable[[Callable[[Study], R]], Flow[..., R]]:
    """Make a flow, named `name`, of a function that is given the study of a call.

    Flows nested in one another share one study and one lock on the output folder. `needs_atlases` says whether the
    flow can be called without the parameter `atlases`; only one that `trains` something has the parameter `recipe`; one
    that `builds_atlas` ends with a template of the cases, and one that `follows` with how subjects changed.
    """

    def decorate(function: Callable[[Study], R]) -> Flow[..., R]:
        def run(
            *,
            cohort: Path,
            atlases: list[str] = [],  # noqa: B006 (never changed)
            output: Path,
            settings: FewShotSettings = FewShotSettings(),  # noqa: B008 (frozen)
            evaluate: Path | None = None,
            cases: list[str] | None = None,
            device: Device = "auto",
            workers: int | None = None,
            recipe: str | None = None,
        ) -> R:
            call = Call(
                cohort=cohort,
                atlases=tuple(atlases),
                output=output,
                settings=settings,
                evaluate=evaluate,
                cases=None if cases is None else tuple(cases),
                device=device,
                workers=workers,
                recipe=recipe,
                trains=trains or "registration",
                builds_atlas=builds_atlas,
                follows=follows,
            )
            _let_lines_through()
            with open_study(call, needs_atlases) as study:
                return function(study)

        run.__name__ = run.__qualname__ = function.__name__
        run.__doc__, run.__module__ = function.__doc__, function.__module__
        required = (*(("atlases",) if needs_atlases else ()), *(("recipe",) if trains else ()))
        _sign(run, required, left_out=() if trains else ("recipe",))
        runner: Any = ThreadPoolTaskRunner(max_workers=MAX_WORKERS)
        return flow(name=name, task_runner=runner, validate_parameters=True)(run)

    return decorate


def _sign(function: Callable[..., Any], required: Collection[str], left_out: Collection[str]) -> None:
    """Make parameters ones that must be given, or that there are not, as Prefect sees them."""
    signature = inspect.signature(function)
    changed = [
        item.replace(default=inspect.Parameter.empty) if item.name in required else item
        for item in signature.parameters.values()
        if item.name not in left_out
    ]
    function.__dict__["__signature__"] = signature.replace(parameters=changed)


def _let_lines_through() -> None:
    """Let our lines reach Prefect's handlers, which set no level of their own."""
    logger = logging.getLogger("flows")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


def parameters(study: Study) -> dict[str, Any]:
    """Parameters that give a nested flow the same study."""
    return call_parameters(study.call.model_copy(update={"recipe": None}))


def training_parameters(study: Study) -> dict[str, Any]:
    """The same for a nested flow that trains the joint recipe of the settings."""
    return parameters(study) | {"recipe": study.call.settings.segment.recipe}


def call_parameters(call: Call) -> dict[str, Any]:
    """Parameters of a flow for a call."""
    values = {
        name: getattr(call, name) for name in Call.model_fields if name not in ("trains", "builds_atlas", "follows")
    }
    lists = {"atlases": list(call.atlases), "cases": None if call.cases is None else list(call.cases)}
    if call.recipe is None:
        del values["recipe"]
    return values | lists
