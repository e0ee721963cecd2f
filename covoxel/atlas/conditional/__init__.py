"""Conditional templates: the template of a cohort as a function of age, sex or group."""

from covoxel.atlas.conditional.brightness import Brightness
from covoxel.atlas.conditional.build import Round, build_conditional
from covoxel.atlas.conditional.design import CovariateError, Design, Value
from covoxel.atlas.conditional.effect import Effect, effect_of
from covoxel.atlas.conditional.store import read_design, read_effect, write_design, write_effect
from covoxel.atlas.conditional.template import At, ConditionalTemplate
from covoxel.atlas.conditional.trend import Trend, case_volumes, trends

__all__ = [
    "At",
    "Brightness",
    "ConditionalTemplate",
    "CovariateError",
    "Design",
    "Effect",
    "Round",
    "Trend",
    "Value",
    "build_conditional",
    "case_volumes",
    "effect_of",
    "read_design",
    "read_effect",
    "trends",
    "write_design",
    "write_effect",
]
