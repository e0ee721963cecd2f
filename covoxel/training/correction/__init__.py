"""Corrective learning: a small network that learns what fusion does wrong, from labelled images fused by the others."""

from covoxel.training.correction.apply import correct
from covoxel.training.correction.cases import CorrectionCase
from covoxel.training.correction.crossfit import MIN_CASES, LearntCorrection, learn_correction
from covoxel.training.correction.settings import CorrectionSettings
from covoxel.training.correction.trainer import TrainedCorrection, train_correction

__all__ = [
    "MIN_CASES",
    "CorrectionCase",
    "CorrectionSettings",
    "LearntCorrection",
    "TrainedCorrection",
    "correct",
    "learn_correction",
    "train_correction",
]
