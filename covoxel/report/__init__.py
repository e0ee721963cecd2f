"""Reports: figures of a case, plots of a cohort, one self-contained HTML page."""

from covoxel.report.case import case_figures
from covoxel.report.change import change_map
from covoxel.report.fusion_model import AtlasRow, CalibrationPoint, CurvePoint, LearningPoint
from covoxel.report.gaps import Gap, Guard
from covoxel.report.html import render
from covoxel.report.joint_model import JointPoint, JointReport, JudgedRow, VerdictRow
from covoxel.report.longitudinal import LongitudinalReport, StructureChange, Trace, render_longitudinal
from covoxel.report.model import CaseReport, Report, Stage, StructureRow

__all__ = [
    "AtlasRow",
    "CalibrationPoint",
    "CaseReport",
    "CurvePoint",
    "Gap",
    "Guard",
    "JointPoint",
    "JointReport",
    "JudgedRow",
    "LearningPoint",
    "LongitudinalReport",
    "Report",
    "Stage",
    "StructureChange",
    "StructureRow",
    "Trace",
    "VerdictRow",
    "case_figures",
    "change_map",
    "render",
    "render_longitudinal",
]
