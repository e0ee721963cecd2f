"""Likeness of a fixed and a moved image: `SIMILARITIES` of `covoxel.losses.base`."""
