"""Training of registration networks: without labels, with the labels of atlases, or on synthetic warps alone."""
