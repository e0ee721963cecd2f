"""A template from a mapping of images, in one process; flows do the same steps a case at a time."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import torch

from covoxel.atlas.base import Iteration, Step, Template, TemplateSettings
from covoxel.atlas.mean import Mean, astray, mean_of, of_other_contrast
from covoxel.atlas.order import digest, mass, provisional_reference
from covoxel.atlas.place import place
from covoxel.atlas.placement import Placement
from covoxel.spatial import Image


def build_template(
    images: Mapping[str, Image],
    settings: TemplateSettings = TemplateSettings(),  # noqa: B008 (frozen)
    *,
    device: torch.device | str = "cpu",
    placements: MutableMapping[str, Placement] | None = None,
    options: Mapping[str, Any] | None = None,
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
    options
        Of an engine other than svf, such as its model.

    Returns
    -------
    Template
        An image whose registration does not converge is left out, with the reason.

    Raises
    ------
    ValueError
        If there are fewer than two images (or fewer are left), images of different dimensions, or of different
        contrast, where the settings want one.
    """
    work = _Work(images, settings, device, {} if placements is None else placements, dict(options or {}))
    for step in settings.steps:
        mean = work.do(step)
        work.history.append(mean.facts)
        if step.iteration > 0 and mean.facts.change < settings.tolerance:
            break
    assert work.fixed is not None
    work.settle()
    return Template(work.fixed, {name: work.placements[name] for name in work.names}, work.history, work.left_out)


@dataclass
class _Work:
    """A template on its way."""

    images: Mapping[str, Image]
    settings: TemplateSettings
    device: torch.device | str
    placements: MutableMapping[str, Placement]
    options: dict[str, Any]
    names: list[str] = field(default_factory=list)
    fixed: Image | None = None
    shape: Placement | None = None
    reference: str = ""
    left_out: dict[str, str] = field(default_factory=dict)
    history: list[Iteration] = field(default_factory=list)

    def __post_init__(self) -> None:
        digests: dict[str, str] = {}
        masses: dict[str, float] = {}
        dimensions = set()
        for name in self.images:
            image = self.images[name]
            digests[name], masses[name] = digest(image), mass(image)
            dimensions.add(image.grid.ndim)
        if len(digests) < 2:
            raise ValueError(f"a template needs two images or more, got {len(digests)}")
        if len(dimensions) > 1:
            raise ValueError("images of one template must all be 2-D or all 3-D, got both")
        self.names = sorted(digests, key=lambda name: (digests[name], name))
        self.reference = provisional_reference(masses, digests)

    def do(self, step: Step) -> Mean:
        """Bring every image onto the template there is, and make the next one."""
        if self.fixed is None:
            self.fixed = self.images[self.reference].to(self.device)
        for name in self.names:
            try:
                self.placements[name] = self._placed(name, step)
            except ValueError as error:
                self.left_out[name] = str(error)
        similarities = {name: self.placements[name].similarity for name in self.names if name not in self.left_out}
        if step.number == 0 and self.settings.contrast == "one":
            wrong = of_other_contrast(similarities)
            if wrong:
                raise ValueError(wrong)
        elif step.number > 0:
            self.left_out |= astray(similarities)
        self.names = [name for name in self.names if name not in self.left_out]
        if len(self.names) < 2:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(self.left_out.items()))
            raise ValueError(f"a template needs two images or more, and too few are left ({reasons})")
        mean = mean_of(self.names, self.images, self.placements, self.fixed, step, self.settings)
        self.fixed, self.shape = mean.image, mean.shape
        return mean

    def settle(self) -> None:
        """Make the placements those on the last template."""
        assert self.shape is not None
        for name in self.names:
            self.placements[name] = self.placements[name].after(self.shape)
        self.shape = None

    def _placed(self, name: str, step: Step) -> Placement:
        assert self.fixed is not None
        before = None
        if step.number > 0:
            assert self.shape is not None
            before = self.placements[name].after(self.shape)
        return place(self.fixed, self.images[name].to(self.device), before, step, self.settings, self.options)
