"""Subjects and shapes whose truth is known, for tests, demonstrations and benchmarks."""
