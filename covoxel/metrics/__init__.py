"""Metrics of label maps and of transforms; numbers for tables, without gradient."""

from covoxel.metrics.base import METRICS, Metric
from covoxel.metrics.dice import dice, jaccard
from covoxel.metrics.digital import DigitalFolding, digital_folding
from covoxel.metrics.endpoint import EndpointError, endpoint_error
from covoxel.metrics.folding import Folding, folding
from covoxel.metrics.landmarks import tre_mm
from covoxel.metrics.summary import Summary, summarise
from covoxel.metrics.surface import assd_mm, hd95_mm
from covoxel.metrics.volumes import volume_difference_percent, volumes_mm3

__all__ = [
    "METRICS",
    "DigitalFolding",
    "EndpointError",
    "Folding",
    "Metric",
    "Summary",
    "assd_mm",
    "dice",
    "digital_folding",
    "endpoint_error",
    "folding",
    "hd95_mm",
    "jaccard",
    "summarise",
    "tre_mm",
    "volume_difference_percent",
    "volumes_mm3",
]
