"""Local correlation against MONAI's, a warp and the integration of a velocity: seconds, bytes and bandwidth reached.

Run `python -m benchmarks.losses` (about two minutes on two cores); `--device cuda` where there is a GPU.
"""

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import Bar, arguments, describe_run, finish
from benchmarks.measure import Stopwatch, say
from benchmarks.traffic import copy_gb_per_second, moved_bytes
from covoxel.losses.similarity.lncc import lncc
from covoxel.spatial import warp
from covoxel.spatial.smoothing import gaussian
from covoxel.spatial.velocity import exp

WINDOW = 9
SQUARINGS = 7
OURS, THEIRS = "local correlation", "local correlation, MONAI"

Work = Callable[[], object]


class Bench:
    """Images, a displacement, and the works that are timed on them.

    Parameters
    ----------
    shape
        Voxels along each axis.
    device
        Where the work is done.
    seed
        Of images and displacement.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(2 + len(shape), 1, *shape, generator=generator)
        smooth = gaussian(noise, [1.5] * len(shape))
        smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
        self.device = device
        self.fixed, moving = (smooth[i, None].to(device) for i in (0, 1))
        self.moving = moving.requires_grad_()
        displacement = gaussian(noise[2:, 0][None], [6.0] * len(shape))
        self.displacement = (3 * displacement / displacement.std()).to(device).requires_grad_()
        self.mask = torch.ones_like(self.fixed)
        self.theirs = _monai_loss()

        self.results: dict[str, tuple[Tensor, Tensor]] = {}

    def ours(self) -> None:
        """Value and gradient of covoxel's local correlation, everything about the fixed image included."""
        value = lncc(self.fixed, self.mask, radius=WINDOW // 2, border="zeros")(self.moving)
        self.results[OURS] = value.detach() - 1, torch.autograd.grad(value.sum(), self.moving)[0]

    def monai(self) -> None:
        """Value and gradient of MONAI's."""
        value = self.theirs(self.moving, self.fixed)
        self.results[THEIRS] = value.detach(), torch.autograd.grad(value, self.moving)[0]

    def warp(self) -> Tensor:
        """The moving image warped."""
        with torch.no_grad():
            return warp(self.moving, self.displacement)

    def warp_gradient(self) -> Tensor:
        """The moving image warped, and the gradient of the displacement."""
        moved = warp(self.moving.detach(), self.displacement)
        return torch.autograd.grad(moved.sum(), self.displacement)[0]

    def integrate(self) -> Tensor:
        """The displacement of a velocity."""
        with torch.no_grad():
            return exp(self.displacement, squarings=SQUARINGS)

    def integrate_gradient(self) -> Tensor:
        """The displacement of a velocity, and its gradient."""
        return torch.autograd.grad(exp(self.displacement, squarings=SQUARINGS).sum(), self.displacement)[0]

    def wait(self) -> None:
        """Wait until the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def measure(self, work: Work, repeats: int) -> tuple[Stopwatch, float]:
        """The quickest of `repeats` runs, and GB moved in one more before them, which is not timed."""
        moved = moved_bytes(work) / 1e9
        self.wait()
        runs = [Stopwatch() for _ in range(repeats)]
        for run in runs:
            with run:
                work()
                self.wait()
        return min(runs, key=lambda run: run.seconds), moved


def _monai_loss() -> Any:
    try:
        losses = import_module("monai.losses")
    except ImportError as error:
        raise SystemExit(f"monai must be installed to compare with it (extra `test`): {error}") from error
    return losses.LocalNormalizedCrossCorrelationLoss(spatial_dims=3, kernel_size=WINDOW)


def works(bench: Bench) -> dict[str, tuple[Work, int, int]]:
    """What is timed: the work, the arrays it must read or write once at the least, and how often it is repeated."""
    n = 3
    return {
        OURS: (bench.ours, 2 + 1, 3),
        THEIRS: (bench.monai, 2 + 1, 1),
        "warp": (bench.warp, 1 + n + 1, 5),
        "warp, with gradient": (bench.warp_gradient, 1 + n + 1 + n, 3),
        f"integration, {SQUARINGS} squarings": (bench.integrate, n + n, 3),
        f"integration, {SQUARINGS} squarings, with gradient": (bench.integrate_gradient, n + n, 1),
    }


def rows_of(bench: Bench, copy: float) -> list[dict[str, object]]:
    """Seconds, bytes and bandwidth of each work."""
    rows: list[dict[str, object]] = []
    for name, (work, arrays, repeats) in works(bench).items():
        best, moved = bench.measure(work, repeats)
        rows.append(
            {
                "work": name,
                "seconds": best.seconds,
                "cpu_s": best.cpu_seconds,
                "least_gb": arrays * 4 * bench.fixed.numel() / 1e9,
                "moved_gb": moved,
                "gb_per_s": moved / best.seconds,
                "percent_of_copy": 100 * moved / best.seconds / copy,
            }
        )
        say(f"{name}: {best.seconds:.3g} s")
    return rows


def agreement(bench: Bench) -> list[Bar]:
    """How far covoxel's value and gradient are from MONAI's; the gradient as a share of its length."""
    (value, gradient), (expected, expected_gradient) = bench.results[OURS], bench.results[THEIRS]
    apart = float((gradient - expected_gradient).norm() / expected_gradient.norm())
    return [
        Bar("value of local correlation, difference from MONAI", float((value - expected).abs()), 1e-5, at_least=False),
        Bar("its gradient, length of the difference over its own", apart, 1e-5, at_least=False),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=[160, 192, 224], help="voxels (default 160 192 224)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--threads", type=int, default=2, help="of the processor (default 2)")
    options = arguments(parser, argv)
    torch.set_num_threads(options.threads)
    describe_run(seed=options.seed, processes=1, threads=options.threads)
    bench = Bench(tuple(options.shape), torch.device(options.device), options.seed)
    copy = copy_gb_per_second(2**29, bench.device, bench.wait)
    say(f"copy      {copy:.3g} GB/s read and written together, on {options.device}\n")
    rows = rows_of(bench, copy)
    seconds = {str(row["work"]): float(str(row["seconds"])) for row in rows}
    bars = [Bar("local correlation, times faster than MONAI", seconds[THEIRS] / seconds[OURS], 5, at_least=True)]
    notes = (
        f"{' x '.join(map(str, options.shape))} voxels, float32; local correlation with a window of {WINDOW}, "
        "value and gradient. seconds, cpu_s: wall clock and processor, of the quickest of up to five runs.",
        "least_gb: every input and result once. moved_gb: what all passes read and write, from a cache or not.",
        "gb_per_s and percent_of_copy: moved_gb a second, and that in percent of the copy above; more than 100 % is "
        "possible where a pass finds its data in a cache.",
    )
    finish(rows, [*bars, *agreement(bench)], options.output, notes)


if __name__ == "__main__":
    main()
