"""Stages by which nnU-Net is trained in a run, in their order: plan, folds, new labels, and the same again."""

from collections.abc import Callable, Sequence
from functools import partial

from tasks import plan_nnunet, relabel, train_nnunet
from tasks.job import Job
from tasks.study import Study


def nnunet_stages(study: Study) -> list[tuple[str, Callable[..., Sequence[Job]]]]:
    """Name of each stage, and what gives its jobs; none where nnU-Net is not trained."""
    settings = study.call.settings.segment.nnunet
    if "nnunet" not in study.networks or settings.model is not None:
        return []
    stages: list[tuple[str, Callable[..., Sequence[Job]]]] = []
    for round_ in range(1, settings.rounds + 1):
        if round_ > 1:
            stages.append((relabel.STAGE, relabel.relabel_jobs))
        stages.append((plan_nnunet.STAGE, partial(plan_nnunet.plan_jobs, round_=round_)))
        for fold in range(settings.folds):
            stages.append((train_nnunet.STAGE, partial(train_nnunet.train_jobs, round_=round_, fold=fold)))
    return stages
