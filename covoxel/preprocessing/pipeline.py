"""The chain of preprocessing: any image to a clean one on a canonical grid of the same world."""

from numpy.typing import ArrayLike

from covoxel.preprocessing import cropping
from covoxel.preprocessing.bias import correct_bias
from covoxel.preprocessing.intensity import normalise
from covoxel.preprocessing.orientation import canonical
from covoxel.preprocessing.spacing import respaced
from covoxel.spatial import Image


def preprocess(
    image: Image,
    *,
    bias: bool = False,
    spacing_mm: ArrayLike | None = None,
    crop: bool = False,
    margin_mm: float = 5.0,
) -> Image:
    """Canonical orientation, then as asked cropping, bias correction and spacing, then intensities to 0 … 1.

    The grid of the result lies in the same world, so that its way back to the image's own grid is one interpolation,
    and none where only orientation and field of view changed: `restore_labels`, `restore_map`.

    Parameters
    ----------
    image
        Intensities on any grid.
    bias
        Whether to correct the bias field (N4).
    spacing_mm
        Spacing wanted, `(n,)` along the canonical axes or one for all; by default the image's own.
    crop
        Whether to crop to the foreground.
    margin_mm
        Margin left around it.

    Returns
    -------
    Image
        float32 intensities in 0 to 1.
    """
    result = canonical(image)
    if crop:
        result = cropping.crop(result, cropping.foreground_box(result, margin_mm))
    if bias:
        result = correct_bias(result)
    if spacing_mm is not None:
        result = respaced(result, spacing_mm)
    return Image(normalise(result), result.grid)
