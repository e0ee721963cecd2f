"""A template from a mapping of images, in one process; flows do the same steps a case at a time."""

from collections.abc import Mapping, MutableMapping

import torch

from covoxel.atlas.base import Template, TemplateSettings
from covoxel.atlas.placement import Placement
from covoxel.spatial import Image


def build_template(
    images: Mapping[str, Image],
    settings: TemplateSettings = TemplateSettings(),  # noqa: B008 (frozen)
    *,
    device: torch.device | str = "cpu",
    placements: MutableMapping[str, Placement] | None = None,
) -> Template:
    """Unbiased template of images, 2-D or 3-D, on any grids.

    Every image is brought onto a provisional reference by an affine map; the exponential barycentre of the maps is
    taken out, so that no image is favoured; then all images are brought onto their mean again and again, and the mean
    velocity is taken out each time. The result does not depend on the order or the names of the images.

    Parameters
    ----------
    images
        Two or more by id, intensities of about 0 to 1; may read an image when it is asked for: one is held at a time.
    settings
        How.
    device
        Where the work is done.
    placements
        Where placements are kept meanwhile, memory by default; one that keeps them on disk bounds memory.

    Raises
    ------
    ValueError
        If there are fewer than two images, or images of different dimensions.
    """
    raise NotImplementedError
