"""Training: of data parameters, and of registration networks in `covoxel.training.registration`.

What is named here is about data parameters: how far each propagated label map can be trusted, learnt from the cohort.
"""

from covoxel.training.augmentation import Augmentation
from covoxel.training.data_parameters.cases import PairedCase, PairedCases, paired_case, teacher
from covoxel.training.data_parameters.parameters import DataParameters
from covoxel.training.data_parameters.settings import TrainingSettings
from covoxel.training.data_parameters.trainer import Trained, train
from covoxel.training.progress import Progress, TrainingDivergedError

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
