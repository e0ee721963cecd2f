"""The map of a subject's change: where the template grew or shrank between two visits, over the template."""

import numpy as np

from covoxel.report.canvas import ColourBar, Panel, Pixels, draw
from covoxel.report.figures import window_of
from covoxel.report.palette import VOLUME_CHANGE, apply_map
from covoxel.report.planes import Array, Frame, choose_planes
from covoxel.spatial import Image

_LEAST_PERCENT = 2.0


def change_map(template: Image, log_change: Image, label_map: Image) -> bytes:
    """WebP of three slices: growth orange, loss blue, as clear as it is large; what changed little shows the template.

    Parameters
    ----------
    template, log_change, label_map
        On one grid: intensities, logarithm of the change of volume, and labels by which the slices are chosen.
    """
    frame = Frame.of(template.grid)
    grey, change, labels = (
        frame.view(image.data.detach().cpu().numpy()) for image in (template, log_change, label_map)
    )
    most = _most(change, labels)
    low, high = window_of(grey)

    def paint(panel: Panel) -> Pixels:
        shade = np.clip((panel.enlarge(panel.plane.cut(grey)) - low) / (high - low), 0, 1)
        base = np.repeat(0.8 * shade[..., None], 3, 2)
        here = np.clip(panel.enlarge(panel.plane.cut(change), smooth=False) / most, -1, 1)
        alpha = np.clip(1.5 * np.abs(here), 0, 0.85)[..., None]
        colours = apply_map(VOLUME_CHANGE, np.asarray(here / 2 + 0.5, dtype=np.float32))
        return np.asarray(base * (1 - alpha) + colours * alpha, dtype=np.float32)

    percent = 100 * np.expm1(most)
    planes = choose_planes(grey, labels, frame.spacing_mm)
    return draw(planes, paint, ColourBar(VOLUME_CHANGE, (f"{-percent:.0f} %", "0", f"+{percent:.0f} %")))


def _most(change: Array, labels: Array) -> float:
    """Change drawn in full colour: that which few voxels of the structures pass."""
    inside = np.abs(change[labels != 0]) if (labels != 0).any() else np.abs(change)
    return max(float(np.percentile(inside, 98)), float(np.log1p(_LEAST_PERCENT / 100)))
