"""Flow `few-shot`: every case of a cohort segmented from the labels of a few atlases."""

from flows.fuse_labels import fuse_labels
from flows.preprocess import preprocess
from flows.register import register
from flows.report import report
from flows.segment import segment
from flows.study_flow import parameters, study_flow
from tasks.study import Study
from tasks.summary import Summary


@study_flow("few-shot")
def few_shot(study: Study) -> Summary:
    """Segment every case of a cohort from the labels of the named atlases alone."""
    for stage in (preprocess, register, fuse_labels):
        stage(**parameters(study))
    if study.segments:
        segment(**parameters(study))
    return report(**parameters(study))
