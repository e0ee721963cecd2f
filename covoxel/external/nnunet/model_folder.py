"""Trained models in nnU-Net's folder: written so that its own predictor takes them, read without running anything."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from covoxel.external.nnunet import names
from covoxel.external.nnunet.dataset_read import channels_of, labels_of, read_json
from covoxel.external.nnunet.errors import NnunetError
from covoxel.external.nnunet.library import require
from covoxel.external.nnunet.model import FoldModel, TrainedModel
from covoxel.external.nnunet.planning import Plan
from covoxel.io import atomic_path, write_json
from covoxel.memory_errors import is_out_of_memory

_LISTS = ("mean_fg_dice", "ema_fg_dice", "dice_per_class_or_region", "val_losses", "lrs")
_TIMES = ("epoch_start_timestamps", "epoch_end_timestamps")


def write_model(folder: Path, plan: Plan, folds: Sequence[FoldModel]) -> None:
    """Write `plans.json`, `dataset.json` and `fold_K/checkpoint_final.pth`, as nnU-Net does; other folds stay.

    No id of a case is written.

    Raises
    ------
    NnunetError
        If `folder` holds a model of other plans, or no fold is given.
    """
    folder = Path(folder)
    if not folds:
        raise NnunetError(f"{folder} must be written from a fold, got none")
    plans = folder / names.PLANS_JSON
    if plans.exists() and read_json(plans) != plan.plans:
        raise NnunetError(f"{folder} holds a model of other plans; a model's folds must have the same ones")
    write_json(plans, plan.plans)
    write_json(folder / names.DATASET_JSON, plan.dataset_json)
    for each in folds:
        with atomic_path(names.fold_folder(folder, each.fold) / names.CHECKPOINT) as temporary:
            torch.save(_checkpoint(plan, each), temporary)


def read_model(folder: Path, folds: Sequence[int | str] | None = None) -> TrainedModel:
    """A model from nnU-Net's folder, whoever trained it; all of its numbered folds, else `all`, if none is named.

    Raises
    ------
    NnunetError
        If plans or checkpoints are missing, are not nnU-Net's, or not of one another, or it is a cascade or of
        overlapping regions.
    MissingLibraryError
        If nnU-Net is not installed.
    """
    require()
    folder = Path(folder)
    plans, content = read_json(folder / names.PLANS_JSON), read_json(folder / names.DATASET_JSON)
    labels, _ = labels_of(folder / names.DATASET_JSON, content)
    channels_of(folder / names.DATASET_JSON, content)
    values = tuple(int(value) for value in content.get(names.OURS, {}).get("values", range(len(labels))))
    if len(values) != len(labels):
        raise NnunetError(f"{folder / names.DATASET_JSON} has {len(labels)} labels and {len(values)} values of them")
    wanted = tuple(_folds_in(folder) if folds is None else folds)
    if not wanted:
        raise NnunetError(f"{folder} has no checkpoint; a model must have fold_0/{names.CHECKPOINT} or another fold")
    found = [_read_checkpoint(names.fold_folder(folder, fold) / names.CHECKPOINT) for fold in wanted]
    configuration = _one_of([each["configuration"] for each in found], folder)
    if configuration not in plans.get("configurations", {}):
        raise NnunetError(f"{folder / names.PLANS_JSON} has no configuration {configuration}, which was trained")
    if "previous_stage" in plans["configurations"][configuration]:
        raise NnunetError(f"{folder} is a cascade ({configuration}); a model must be of one stage")
    model = TrainedModel(
        plans,
        content,
        configuration,
        values,
        wanted,
        tuple(each["weights"] for each in found),
        _one_of([each["mirroring"] for each in found], folder),
    )
    _check_weights(model, folder)
    return model


def _checkpoint(plan: Plan, fold: FoldModel) -> dict[str, Any]:
    """What nnU-Net's trainer saves, as far as others than that trainer read it."""
    epochs = len(fold.losses)
    logging: dict[str, Any] = {name: [0.0] * epochs for name in (*_LISTS, *_TIMES)}
    return {
        "network_weights": dict(fold.weights),
        "optimizer_state": None,
        "grad_scaler_state": None,
        "logging": {**logging, "train_losses": list(fold.losses)},
        "_best_ema": None,
        "current_epoch": epochs,
        "init_args": {
            "configuration": plan.configuration,
            "fold": fold.fold,
            "plans": dict(plan.plans),
            "dataset_json": dict(plan.dataset_json),
        },
        "trainer_name": names.TRAINER,
        "inference_allowed_mirroring_axes": fold.mirroring or None,
    }


def _folds_in(folder: Path) -> list[int | str]:
    found = [path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{names.CHECKPOINT}")]
    numbered = sorted(int(name) for name in found if name.isdecimal())
    return [*numbered] if numbered else ["all"] * ("all" in found)


def _read_checkpoint(path: Path) -> dict[str, Any]:
    """Configuration, weights and mirrored axes of a checkpoint; nothing in the file is executed."""
    if not path.is_file():
        raise NnunetError(f"{path} does not exist; a model folder must have a checkpoint of each fold")
    try:
        # nnU-Net logs numpy's numbers; making one of them from its bytes runs no code of the file.
        with torch.serialization.safe_globals(_numbers()):
            state = torch.load(path, map_location="cpu", weights_only=True)
        weights, axes = state["network_weights"], state.get("inference_allowed_mirroring_axes")
        configuration = str(state["init_args"]["configuration"])
        sound = isinstance(weights, dict) and all(isinstance(value, Tensor) for value in weights.values())
    except Exception as error:  # what torch raises for a foreign file is many things
        if is_out_of_memory(error):
            raise
        raise NnunetError(f"{path} is no checkpoint of nnU-Net: {str(error).splitlines()[0]}") from error
    if not sound:
        raise NnunetError(f"{path} must hold the weights of a network")
    plain = {name.removeprefix("module.").removeprefix("_orig_mod."): value for name, value in weights.items()}
    return {"configuration": configuration, "weights": plain, "mirroring": tuple(int(axis) for axis in axes or ())}


def _numbers() -> list[Any]:
    scalar: Any = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(name)) for name in ("float64", "float32", "float16", "int64", "int32", "bool")]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]


def _one_of(values: Sequence[Any], folder: Path) -> Any:
    if any(value != values[0] for value in values):
        raise NnunetError(f"the folds of {folder} must be of one training, got {values[0]} and others")
    return values[0]


def _check_weights(model: TrainedModel, folder: Path) -> None:
    from covoxel.external.nnunet.planner import network_of

    with torch.device("meta"):
        network = network_of(model.plans, model.dataset_json, model.configuration, deep_supervision=False)
    wanted: Mapping[str, Tensor] = network.state_dict()
    for fold, weights in zip(model.folds, model.weights, strict=True):
        for name, value in wanted.items():
            if name not in weights or weights[name].shape != value.shape:
                got = tuple(weights[name].shape) if name in weights else "nothing"
                raise NnunetError(
                    f"fold {fold} of {folder} is not of its plans: {name} must be {tuple(value.shape)}, got {got}"
                )
