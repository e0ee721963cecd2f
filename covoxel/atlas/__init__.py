"""Unbiased group-wise templates: many images brought onto their own mean, which favours none of them."""

from covoxel.atlas.base import Iteration, Step, Template, TemplateSettings
from covoxel.atlas.build import build_template
from covoxel.atlas.labels import label_probabilities
from covoxel.atlas.library import Branch, branches, likeness, usual_likeness
from covoxel.atlas.middle import MidSpace, barycentre, mid_space
from covoxel.atlas.placement import Placement, through
from covoxel.atlas.store import FolderOfPlacements, read_placement, write_placement

__all__ = [
    "Branch",
    "FolderOfPlacements",
    "Iteration",
    "MidSpace",
    "Placement",
    "Step",
    "Template",
    "TemplateSettings",
    "barycentre",
    "branches",
    "build_template",
    "label_probabilities",
    "likeness",
    "mid_space",
    "read_placement",
    "through",
    "usual_likeness",
    "write_placement",
]
