"""Similarity measures and regularisers, one a file."""
