"""What a cohort is: its cases, their roles, the checks of its files, and the readers that find them."""

from data_catalog.checks import CheckedCase, check_case, expected_ndim, find_duplicates
from data_catalog.choice import Choice
from data_catalog.evaluation import EvaluationLabels
from data_catalog.files import load_image, sha256_of
from data_catalog.readers import open_cohort
from data_catalog.schema import (
    Case,
    Cohort,
    CohortError,
    Count,
    Rejected,
    Role,
    ScoringLabelError,
)
from data_catalog.synthetic import make_synthetic_cohort

__all__ = [
    "Case",
    "CheckedCase",
    "Choice",
    "Cohort",
    "CohortError",
    "Count",
    "EvaluationLabels",
    "Rejected",
    "Role",
    "ScoringLabelError",
    "check_case",
    "expected_ndim",
    "find_duplicates",
    "load_image",
    "make_synthetic_cohort",
    "open_cohort",
    "sha256_of",
]
