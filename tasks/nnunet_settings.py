"""nnU-Net's settings: the profile and the weighting that they ask for, and whether they can be had."""

from importlib.util import find_spec

from covoxel.external.nnunet import NnunetError, Profile, Weighting, profile, read_model
from tasks.settings import NnunetSettings, SettingsError

SECTION = "settings: segment.nnunet"


def profile_of(settings: NnunetSettings, device: str) -> Profile:
    """How large the network is and how long it is trained on a device.

    Raises
    ------
    SettingsError
        If a field is not known or has a value that it may not have.
    """
    name = settings.profile
    if name == "auto":
        name = "gpu" if device == "cuda" else "cpu"
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.override.items()}
    try:
        return profile(name, **fields)
    except ValueError as error:
        raise SettingsError(f"{SECTION}.override: {error}") from None


def weighting_of(settings: NnunetSettings) -> Weighting:
    """How much fused labels count."""
    return Weighting(settings.power, settings.ignore_below, settings.fused_weight, settings.hand_share)


def check_nnunet(settings: NnunetSettings, device: str) -> None:
    """Check what can be checked before anything is started.

    Raises
    ------
    SettingsError
        If nnU-Net is not installed, its model cannot be used, or a setting is wrong.
    """
    if find_spec("nnunetv2") is None:
        raise SettingsError("settings: segment asks for nnU-Net, which is not installed; install covoxel[nnunet]")
    if settings.rounds > 1 and settings.folds < 2:
        raise SettingsError(f"{SECTION}.rounds = {settings.rounds} needs folds of 2 or more, got {settings.folds}")
    profile_of(settings, device)
    if settings.model is not None:
        try:
            read_model(settings.model)
        except NnunetError as error:
            raise SettingsError(f"{SECTION}.model: {error}") from None
