"""Training of data parameters: how far each propagated label map can be trusted, learnt from the cohort itself."""

from covoxel.training.augmentation import Augmentation
from covoxel.training.cases import PairedCase, PairedCases, paired_case, teacher
from covoxel.training.data_parameters import DataParameters
from covoxel.training.settings import TrainingSettings
from covoxel.training.trainer import Progress, Trained, TrainingDivergedError, train

__all__ = [
    "Augmentation",
    "DataParameters",
    "PairedCase",
    "PairedCases",
    "Progress",
    "Trained",
    "TrainingDivergedError",
    "TrainingSettings",
    "paired_case",
    "teacher",
    "train",
]
