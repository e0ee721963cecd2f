"""The engine that trusts the headers: every image stays where it is."""

from covoxel.registration.base import ENGINES, MovingBatch
from covoxel.spatial import Image, Transform


@ENGINES.register("identity")
def identity(fixed: Image, moving: MovingBatch) -> list[Transform]:
    """Return the identity of the world for every moving image; what any other engine must beat."""
    return [Transform.identity(fixed.grid) for _ in moving.grids]
