"""Random numbers that depend on what they are for and not on what was drawn before: nothing of them needs keeping."""

import hashlib

import torch


def seed_of(*key: str | int) -> int:
    """63 bits from the parts of `key`."""
    digest = hashlib.sha256(":".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*key: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own for each `key`; one on the CPU and one elsewhere draw other numbers."""
    return torch.Generator(device).manual_seed(seed_of(*key))
