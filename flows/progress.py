"""Progress: a bar on a terminal, plain lines elsewhere, and a bar in Prefect's own page where there is a server."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from flows import interrupt
from flows.page import page_progress, page_steps

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
    with _shown(Progress(*columns, console=console)) as progress:
        bar = progress.add_task(stage, total=total, completed=reused, case="")
        yield lambda case: progress.update(bar, advance=1, case=case)


@contextmanager
def _shown(progress: Progress) -> Iterator[Progress]:
    """A bar that an interrupted run takes off before its last line, and gives the cursor back."""
    interrupt.before_last_line.append(progress.stop)
    try:
        with progress:
            yield progress
    finally:
        interrupt.before_last_line.remove(progress.stop)


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


@contextmanager
def step_progress(stage: str) -> Iterator[Callable[[int, int, float], None]]:
    """Show the progress of a long job; call what it gives with the steps done, the steps in all, and the loss."""
    console = Console(stderr=True)
    with _step_bar(console, stage) if console.is_terminal else _step_lines(stage) as show, page_steps(stage) as publish:

        def tell(done: int, total: int, loss: float) -> None:
            show(done, total, loss)
            publish(done, total)

        yield tell


@contextmanager
def _step_bar(console: Console, stage: str) -> Iterator[Callable[[int, int, float], None]]:
    columns: list[Any] = [
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    ]
    with _shown(Progress(*columns, console=console)) as progress:
        bar = progress.add_task(stage, total=None, loss="")
        yield lambda done, total, loss: progress.update(bar, completed=done, total=total, loss=f"loss {loss:.4g}")


@contextmanager
def _step_lines(stage: str) -> Iterator[Callable[[int, int, float], None]]:
    first: tuple[int, float] | None = None
    last = 0.0

    def tell(done: int, total: int, loss: float) -> None:
        nonlocal first, last
        now = time.monotonic()
        if first is None:
            first, last = (done, now), now
            log.info("%s: %d steps%s", stage, total, f", {done - 1} done before" if done > 1 else "")
        elif done == total or now - last > SECONDS_BETWEEN_LINES:
            last, each = now, (now - first[1]) / (done - first[0])
            log.info("%s: step %d of %d, loss %.4g, %.2f s a step", stage, done, total, loss, each)

    yield tell


def _nothing(case: str) -> None:
    """Publish nothing."""
