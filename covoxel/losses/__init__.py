"""What networks and engines minimise: similarity of images, regularity and consistency of fields, agreement of labels.

One loss a file, found by name in the registries of `covoxel.losses.base`. All take batches, 2-D or 3-D, and return one
number a sample, `(batch,)`, that is smaller for what is better.
"""
