"""Few-shot through a template against directly: how many registrations, how good the labels."""

import argparse
from typing import Any

from benchmarks.common import Bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the route."""
    parser.add_argument("--atlases", type=int, default=20, help="with --route: the first so many (default 20)")


def run(options: argparse.Namespace) -> tuple[list[dict[str, Any]], list[Bar], tuple[str, ...]]:
    """Not there yet."""
    raise SystemExit("the route is not there yet")
