"""What a run shows in Prefect's own page: a progress bar a stage and small tables; its failures are no failures."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact

from flows.environment import has_page

log = logging.getLogger(__name__)

SECONDS_BETWEEN_UPDATES = 2.0


@contextmanager
def page_progress(stage: str, total: int, reused: int) -> Iterator[Callable[[str], None]]:
    """Progress bar of a stage in Prefect's page; call what it gives with the id of each case that ends."""
    made: Any = _tolerant(
        create_progress_artifact,
        progress=100.0 * reused / total,
        key=f"{stage}-progress",
        description=f"{stage}: cases",
    )
    done, last = reused, 0.0

    def advance(case: str) -> None:
        nonlocal done, last
        done += 1
        if made is not None and (done == total or time.monotonic() - last > SECONDS_BETWEEN_UPDATES):
            last = time.monotonic()
            _tolerant(update_progress_artifact, artifact_id=made, progress=100.0 * done / total)

    yield advance


def publish_table(key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
    """Show a small table in Prefect's page; `key` is made of small letters, digits and dashes."""
    if rows:
        _tolerant(create_table_artifact, table=[dict(row) for row in rows], key=key, description=description)


def _tolerant(function: Callable[..., Any], **arguments: Any) -> Any:
    if not has_page():
        return None
    try:
        return function(**arguments)
    except Exception as error:
        log.debug("Prefect's page was not updated: %s", error)
        return None
