"""Agreement of probabilities with labels: `LABEL_LOSSES` of `covoxel.losses.base`."""
