"""Reports: figures of a case, plots of a cohort, one self-contained HTML page."""

from covoxel.report.case import case_figures
from covoxel.report.fusion_model import AtlasRow, CalibrationPoint, CurvePoint, LearningPoint
from covoxel.report.html import render
from covoxel.report.model import CaseReport, Report, Stage, StructureRow

__all__ = [
    "AtlasRow",
    "CalibrationPoint",
    "CaseReport",
    "CurvePoint",
    "LearningPoint",
    "Report",
    "Stage",
    "StructureRow",
    "case_figures",
    "render",
]
