"""Flow `segment`: a jointly trained network segments every case too, and the better label map of each is kept."""

from flows.fuse_labels import fuse_labels
from flows.mapping import run_stage
from flows.study_flow import parameters, study_flow, training_parameters
from flows.train_joint import train_joint
from tasks.call import CallError
from tasks.decide import decide, decide_jobs
from tasks.judge import judge, judge_jobs
from tasks.segment import segment as segment_case
from tasks.segment import segment_jobs
from tasks.study import Study
from tasks.summary import Summary, summary_of


@study_flow("segment")
def segment(study: Study) -> Summary:
    """Segment every case by a jointly trained network, and keep its label map, the fused one or both averaged."""
    if not study.segments:
        raise CallError("segment.segmenter is fusion, so no network segments; name joint or auto (--segmenter auto)")
    if not study.ran("fuse"):
        fuse_labels(**parameters(study))
    if study.call.settings.segment.model is None:
        train_joint(**training_parameters(study))
    run_stage(study, "segment", [(segment_case, segment_jobs(study))])
    run_stage(study, "judge", [(judge, judge_jobs(study))])
    run_stage(study, "decide", [(decide, decide_jobs(study))])
    return summary_of(study)
