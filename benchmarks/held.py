"""Bytes that tensors hold at most while something is computed, told by every operation and not by the machine."""

from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Held(TorchDispatchMode):
    """Context that counts what is computed in it and still alive, forward and backward.

    Attributes
    ----------
    most
        Bytes, at most, so far. What was there before is not counted, nor what an operation needs inside.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[StorageWeakRef, int] = {}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute, and look what is held."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._held[StorageWeakRef(storage)] = storage.nbytes()
        self._held = {ref: size for ref, size in self._held.items() if not ref.expired()}
        self.most = max(self.most, sum(self._held.values()))
        return out
