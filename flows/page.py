"""What the page of a run in Prefect shows: a progress bar a stage, a table, its end; failing to show is no failure."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    Artifact,
    MarkdownArtifact,
    ProgressArtifact,
    TableArtifact,
    update_progress_artifact,
)
from prefect.runtime import flow_run

from flows import interrupt
from flows.environment import has_page

log = logging.getLogger(__name__)

SECONDS_BETWEEN_UPDATES = 2.0


_last_run: list[UUID] = []
"""The flow run whose stage began last."""


def remember_run() -> None:
    """Note which flow run the page shows as crashed, with those around it, if this process is interrupted."""
    if has_page() and interrupt.is_listening():
        _last_run[:] = [UUID(flow_run.id)]
        if _mark_interrupted not in interrupt.before_waiting:
            interrupt.before_waiting.append(_mark_interrupted)


def _mark_interrupted() -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Crashed

    run: UUID | None = _last_run[0]
    with get_client(sync_client=True) as client:
        while run is not None:
            client.set_flow_run_state(run, Crashed(message="interrupted"), force=True)
            around = client.read_flow_run(run).parent_task_run_id
            run = None if around is None else client.read_task_run(around).flow_run_id


@contextmanager
def page_progress(stage: str, total: int, reused: int) -> Iterator[Callable[[str], None]]:
    """Progress bar of a stage in Prefect's page; call what it gives with the id of each case that ends."""
    made = _publish(
        ProgressArtifact,
        progress=100.0 * reused / total,
        key=f"{stage}-progress",
        description=_count(stage, reused, total),
    )
    done, last = reused, 0.0

    def advance(case: str) -> None:
        nonlocal done, last
        done += 1
        if made is not None and (done == total or time.monotonic() - last > SECONDS_BETWEEN_UPDATES):
            last = time.monotonic()
            text = _count(stage, done, total)
            _tolerant(update_progress_artifact, artifact_id=made.id, progress=100.0 * done / total, description=text)

    yield advance


@contextmanager
def page_steps(stage: str) -> Iterator[Callable[[int, int], None]]:
    """Progress bar of a long job in Prefect's page, from its first step on; call it with the steps done and in all."""
    bar: list[Any] = []
    last = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal last
        if done < total and time.monotonic() - last <= SECONDS_BETWEEN_UPDATES:
            return
        last, text, share = time.monotonic(), f"{stage}: {done} of {total} steps", 100.0 * done / total
        if not bar:
            bar.append(_publish(ProgressArtifact, progress=share, key=f"{stage}-progress", description=text))
        elif bar[0] is not None:
            _tolerant(update_progress_artifact, artifact_id=bar[0].id, progress=share, description=text)

    yield tell


def publish_table(key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
    """Show a small table in Prefect's page; `key` is made of small letters, digits and dashes."""
    if rows:
        _publish(TableArtifact, table=[dict(row) for row in rows], key=key, description=description)


def publish_lines(key: str, lines: Sequence[str], description: str) -> None:
    """Show some lines of text in Prefect's page; `key` as for `publish_table`."""
    _publish(MarkdownArtifact, markdown="\n\n".join(lines), key=key, description=description)


def _count(stage: str, done: int, total: int) -> str:
    return f"{stage}: {done} of {total} cases"


def _publish(kind: type[Artifact], **content: Any) -> Any:
    """Make an artifact of the outermost flow run, the one whose page people look at."""

    def create() -> Any:
        return kind(flow_run_id=UUID(flow_run.root_flow_run_id), **content).create()

    return _tolerant(create)


def _tolerant(function: Callable[..., Any], **arguments: Any) -> Any:
    if not has_page():
        return None
    try:
        return function(**arguments)
    except Exception as error:
        log.debug("Prefect's page was not updated: %s", error)
        return None
