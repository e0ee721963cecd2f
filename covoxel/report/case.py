"""All figures of one case in one call, from images on any grid."""

from covoxel.spatial import Image, Transform


def case_figures(
    fixed: Image,
    label_map: Image | None = None,
    *,
    confidence: Image | None = None,
    moved: Image | None = None,
    transform: Transform | None = None,
) -> dict[str, bytes]:
    """Figures of one case by key, in the order they are shown.

    Parameters
    ----------
    fixed
        The case, 2-D or 3-D, any orientation; `(*shape)` intensities of any range.
    label_map
        Its segmentation on the same grid.
    confidence
        0 to 1 on the same grid.
    moved
        A moving image (best the most similar atlas) resampled onto the same grid.
    transform
        The transform that moved it; its grid may be another one. Its displacement is drawn, its affine part is not.

    Returns
    -------
    dict
        WebP bytes for those of "overlay", "checkerboard", "confidence", "grid", "jacobian" whose input was given.

    Raises
    ------
    ValueError
        If an image is not on the grid of `fixed`.
    """
    raise NotImplementedError
