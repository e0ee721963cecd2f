"""Flow `demo`: the whole chain on the built-in synthetic cohort; no data and no server needed."""

import logging
from pathlib import Path

from prefect import flow

from flows.few_shot import few_shot
from tasks.call import Device
from tasks.make_cohort import make_cohort
from tasks.settings import FewShotSettings
from tasks.summary import Summary

log = logging.getLogger(__name__)


@flow(name="demo")
def demo(
    output: Path = Path("demo"),
    cases: int = 8,
    settings: FewShotSettings = FewShotSettings(),  # noqa: B008 (frozen)
    device: Device = "auto",
    workers: int | None = None,
) -> Summary:
    """Make the synthetic cohort beside the output folder, segment it from its atlases and score it."""
    log.info("cohort: %d synthetic cases", cases)
    cohort = make_cohort(output, cases)
    return few_shot(
        cohort=cohort.folder,
        atlases=cohort.atlases,
        output=output,
        settings=settings,
        evaluate=cohort.truth,
        device=device,
        workers=workers,
    )
