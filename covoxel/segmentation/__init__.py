"""Segmentation by a trained network: an image, and with some networks labelled ones, to probabilities of labels."""

from covoxel.segmentation.image import segment
from covoxel.segmentation.model import ImageModel, PairSegmenter
from covoxel.segmentation.pairs import segment_pairs
from covoxel.segmentation.segmented import Segmented

__all__ = ["ImageModel", "PairSegmenter", "Segmented", "segment", "segment_pairs"]
