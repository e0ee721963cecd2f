"""Precision and layout: what a network computes in and how it lies in memory, by the device."""

import contextlib

import torch

from covoxel.external.nnunet.profiles import Precision

_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def precision_on(device: torch.device | str, wanted: Precision) -> str:
    """`float32`, `bfloat16` or `float16`; what `auto` stands for on that device.

    Raises
    ------
    ValueError
        If it is float16 on a CPU, which trains nothing in it.
    """
    kind = torch.device(device).type
    if wanted == "auto":
        if kind == "cuda":
            return "float16"
        return "bfloat16" if kind == "cpu" and _has_bfloat16() else "float32"
    if wanted == "float16" and kind != "cuda":
        raise ValueError(f"precision must be float32 or bfloat16 on {kind}, got {wanted}")
    return wanted


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Context in which a network computes in that precision."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=_TYPES[precision])


def memory_layout(device: torch.device, axes: int) -> torch.memory_format:
    """How a network of images of so many axes is laid out to be fastest: channels last on a CPU."""
    if device.type != "cpu":
        return torch.contiguous_format
    return torch.channels_last_3d if axes == 3 else torch.channels_last


def _has_bfloat16() -> bool:
    """Whether the CPU multiplies in bfloat16; where it does not, that is slower than float32."""
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in tests)
