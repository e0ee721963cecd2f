"""Logs for TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Logs:
    """Writes numbers to a folder that TensorBoard reads; with no folder, nowhere.

    Parameters
    ----------
    folder
        Where to; made if missing.
    step
        Steps done before: what an earlier run logged after them is hidden.
    """

    def __init__(self, folder: Path | None, step: int) -> None:
        self._writer: Any = None
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter  # takes seconds to import

            self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def write(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Log `values` as `group/name` at `step`."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Bring everything to the disk."""
        if self._writer is not None:
            self._writer.close()
