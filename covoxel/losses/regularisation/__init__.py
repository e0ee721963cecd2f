"""Penalties on what is no likely transform: `REGULARISERS`, `AFFINE_REGULARISERS` of `covoxel.losses.base`."""
