"""Training of registration networks: without labels, with the labels of atlases, or on synthetic warps alone."""

from covoxel.training.progress import Progress, TrainingDivergedError
from covoxel.training.registration.cases import TrainingCase
from covoxel.training.registration.frame import Frame, frame_of, prepare
from covoxel.training.registration.recipe import PairAugmentation, Recipe, Term, WarpSettings
from covoxel.training.registration.trainer import TrainedRegistration, train_registration

__all__ = [
    "Frame",
    "PairAugmentation",
    "Progress",
    "Recipe",
    "Term",
    "TrainedRegistration",
    "TrainingCase",
    "TrainingDivergedError",
    "WarpSettings",
    "frame_of",
    "prepare",
    "train_registration",
]
