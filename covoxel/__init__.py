"""covoxel: joint registration and segmentation of medical image cohorts."""

__version__ = "0.1.0"
