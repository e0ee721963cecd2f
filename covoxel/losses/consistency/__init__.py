"""Agreement of transforms with each other, there and back: `CONSISTENCY` of `covoxel.losses.base`."""
