"""Progress: a bar on a terminal, plain lines elsewhere, and a bar in Prefect's own page where there is a server."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from flows.page import page_progress

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def stage_progress(stage: str, total: int, reused: int) -> Iterator[Callable[[str], None]]:
    """Show the progress of a stage; call what it gives with the id of each case that ends."""
    console = Console(stderr=True)
    shown = _bar(console, stage, total, reused) if console.is_terminal and total else _lines(stage, total, reused)
    published = page_progress(stage, total, reused) if total > reused else nullcontext(_nothing)
    with shown as show, published as publish:

        def advance(case: str) -> None:
            show(case)
            publish(case)

        yield advance


@contextmanager
def _bar(console: Console, stage: str, total: int, reused: int) -> Iterator[Callable[[str], None]]:
    columns: list[Any] = [
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[case]}"),
    ]
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(stage, total=total, completed=reused, case="")
        yield lambda case: progress.update(bar, advance=1, case=case)


@contextmanager
def _lines(stage: str, total: int, reused: int) -> Iterator[Callable[[str], None]]:
    done, last = reused, time.monotonic()
    if total:
        log.info("%s: %d cases, %d done before", stage, total, reused)

    def advance(case: str) -> None:
        nonlocal done, last
        done += 1
        if done == total or time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            log.info("%s: %d of %d, last %s", stage, done, total, case)

    yield advance


def _nothing(case: str) -> None:
    """Publish nothing."""
