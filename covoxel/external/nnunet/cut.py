"""Cutting plans down to the memory there is: the batch first, then the patch, then the workers."""

from collections.abc import Mapping
from typing import Any

import torch

from covoxel.external.nnunet.errors import MemoryLimitError
from covoxel.external.nnunet.memory import Estimate, at_hand, estimate, in_words
from covoxel.external.nnunet.precision import precision_on
from covoxel.external.nnunet.profiles import Profile


class Cut:
    """Cuts plans down to the memory there is.

    Parameters
    ----------
    plans, content, configuration
        nnU-Net's plans, which are changed, its `dataset.json`, and the configuration.
    profile
        Precision and workers.
    device
        Where the training will be.
    memory
        Bytes it may take; None: those at hand.
    """

    def __init__(
        self,
        plans: dict[str, Any],
        content: Mapping[str, Any],
        configuration: str,
        profile: Profile,
        device: torch.device,
        memory: int | None,
    ) -> None:
        self.plans, self.content, self.configuration = plans, content, configuration
        self.own = plans["configurations"][configuration]
        self.device, self.workers = device, profile.workers
        self.precision = precision_on(device, profile.precision)
        self.limit = at_hand(device) if memory is None else memory
        self.host = at_hand("cpu")

    def cut_down(self) -> list[str]:
        """Cut the batch, then the patch, then the workers; sentences that say what was cut.

        Raises
        ------
        MemoryLimitError
            If the smallest plan takes too much.
        """
        before = self._now()
        wanted, remarks = self._needs(), []
        while not self._fits(self._needs()):
            if not self._smaller():
                takes = in_words(self._bytes(self._needs()))
                raise MemoryLimitError(f"the smallest plan takes {takes}, and {in_words(self.limit)} are at hand")
        for name, was, now in zip(("batch", "patch", "workers"), before, self._now(), strict=True):
            if was != now:
                why = f"training would take {in_words(self._bytes(wanted))} and {in_words(self.limit)} are at hand"
                remarks.append(f"{name} is {now} instead of {was}, as {why}")
        return remarks

    def _now(self) -> tuple[Any, Any, Any]:
        return self.own["batch_size"], tuple(self.own["patch_size"]), self.workers

    def _needs(self) -> Estimate:
        return estimate(self.plans, self.content, self.configuration, self.workers, self.precision)

    def _bytes(self, needs: Estimate) -> int:
        return needs.device if self.device.type == "cuda" else needs.total

    def _fits(self, needs: Estimate) -> bool:
        return self._bytes(needs) <= self.limit and (self.device.type != "cuda" or needs.host <= self.host)

    def _smaller(self) -> bool:
        from covoxel.external.nnunet.planner import shrink

        if self.own["batch_size"] > 1:
            self.own["batch_size"] //= 2
            return True
        if shrink(self.own):
            return True
        if self.workers > 0:
            self.workers = 0
            return True
        return False
