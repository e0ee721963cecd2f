"""Non-negative weights of least quadratic cost, for many small problems at once."""

import torch
from torch import Tensor

_EXCHANGES = 8  # of whole blocks; then one index at a time, which ends for certain
_SLACK = 1e-9


def least_cost_weights(cost: Tensor) -> Tensor:
    """Weights `w >= 0` summing to one that make `w' C w` least, for each matrix C of a batch.

    `w` is proportional to the solution of `C w - y = 1`, `w, y >= 0`, `w y = 0`. It is found by exchanging indices
    between the set with weight and the set without: at first all that break a sign, later the last of them, which
    cannot cycle. Every step is one batched solve for the problems still open.

    Parameters
    ----------
    cost
        `(m, n, n)` symmetric and positive definite.

    Returns
    -------
    Tensor
        `(m, n)` of the same type.

    References
    ----------
    Júdice and Pires, A block principal pivoting algorithm for large-scale strictly monotone linear complementarity
    problems, Computers & Operations Research 1994.
    """
    count, n, _ = cost.shape
    weights = torch.full((count, n), 1 / n, dtype=cost.dtype, device=cost.device)
    open_, chosen = torch.arange(count, device=cost.device), torch.ones_like(weights, dtype=torch.bool)
    for step in range(_EXCHANGES + 4 * n):
        solution, slope = _solve(cost[open_], chosen)
        wrong = torch.where(chosen, solution < -_SLACK * solution.abs().amax(1, keepdim=True), slope < -_SLACK)
        weights[open_] = solution.clamp(min=0)
        left = wrong.any(1)
        if not left.any():
            break
        open_, chosen, wrong = open_[left], chosen[left], wrong[left]
        chosen = chosen ^ (wrong if step < _EXCHANGES else _last(wrong))
    return weights / weights.sum(1, keepdim=True)


def _solve(cost: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Solution of `C w = 1` over the chosen indices, zero elsewhere, and `C w - 1`."""
    # Only as many rows as the largest choice has: the chosen ones first, then ones that change nothing.
    size = int(chosen.sum(1).amax())
    order = chosen.to(torch.int8).argsort(1, descending=True)[:, :size]
    inside = chosen.gather(1, order)
    part = cost.gather(1, order[:, :, None].expand(-1, -1, cost.shape[2])).gather(
        2, order[:, None].expand(-1, size, -1)
    )
    part = torch.where(inside[:, :, None] & inside[:, None, :], part, torch.diag_embed((~inside).to(cost.dtype)))
    found = torch.linalg.solve(part, inside.to(cost.dtype)[..., None])[..., 0]
    solution = torch.zeros_like(cost[:, 0]).scatter_(1, order, found)
    return solution, (cost @ solution[..., None])[..., 0] - 1


def _last(wrong: Tensor) -> Tensor:
    """Mask of the last true entry of each row."""
    last = wrong.shape[1] - 1 - wrong.flip(1).to(torch.int8).argmax(1, keepdim=True)
    return torch.zeros_like(wrong).scatter_(1, last, True)
