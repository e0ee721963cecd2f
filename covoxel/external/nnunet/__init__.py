"""nnU-Net v2 in this process: data sets, plans, training on weighted labels, prediction; the extra `nnunet` has it.

nnU-Net is imported when it is first needed. A whole use is: `write_dataset` → `plan` → `train_fold` for each fold →
`write_model` → `read_model` → `Predictor`.
"""

from covoxel.external.nnunet.cohort import Predicted, PredictionCase, predict_files, stream
from covoxel.external.nnunet.dataset import Dataset, DatasetCase
from covoxel.external.nnunet.dataset_read import read_dataset
from covoxel.external.nnunet.dataset_write import write_dataset
from covoxel.external.nnunet.errors import MemoryLimitError, MissingLibraryError, NnunetError, WorkerLostError
from covoxel.external.nnunet.memory import Estimate, at_hand, prediction_bytes, training_bytes
from covoxel.external.nnunet.model import FoldModel, TrainedModel
from covoxel.external.nnunet.model_folder import read_model, write_model
from covoxel.external.nnunet.planning import Plan, plan
from covoxel.external.nnunet.predict import Predictor
from covoxel.external.nnunet.profiles import PROFILES, Profile, profile
from covoxel.external.nnunet.rounds import Corrected, surer
from covoxel.external.nnunet.train import train_fold
from covoxel.external.nnunet.weighting import Weighting

__all__ = [
    "PROFILES",
    "Corrected",
    "Dataset",
    "DatasetCase",
    "Estimate",
    "FoldModel",
    "MemoryLimitError",
    "MissingLibraryError",
    "NnunetError",
    "Plan",
    "Predicted",
    "PredictionCase",
    "Predictor",
    "Profile",
    "TrainedModel",
    "Weighting",
    "WorkerLostError",
    "at_hand",
    "plan",
    "predict_files",
    "prediction_bytes",
    "profile",
    "read_dataset",
    "read_model",
    "stream",
    "surer",
    "train_fold",
    "training_bytes",
    "write_dataset",
    "write_model",
]
