"""What the call of a label sweep may ask for, checked before anything is computed."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks import common
from benchmarks.sweep_plan import HELD_OUT, LABELS, METHODS, REGISTRATION, TEST
from benchmarks.sweep_recipes import load, recipe_name
from tasks.call import CallError
from tasks.settings import SettingsError

_POSITIVE = ("minutes", "scale", "draws", "limit", "views", "processes", "cpu_threads")


def arguments(argv: Sequence[str] | None, description: str) -> argparse.Namespace:
    """Options of the command line; lists are lists, and `recipes` are by method."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", default=",".join(map(str, LABELS)), help="numbers of labels (default 1,2,5,10,20)")
    parser.add_argument("--methods", default=",".join(METHODS), help=f"some of {','.join(METHODS)} (default all)")
    parser.add_argument("--draws", type=int, default=3, help="of the atlases, for each number (default 3)")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="of computing a training, all phases included (default 30)")
    budget.add_argument(
        "--scale", type=float, help="times the steps of the recipes, instead: the same weights on every run"
    )
    parser.add_argument("--cases", choices=(TEST, HELD_OUT), default=TEST, help="scored ones (default test)")
    parser.add_argument("--limit", type=int, help="only the first so many cases are scored")
    parser.add_argument(
        "--recipe", action="append", default=[], metavar="METHOD=NAME", help="another recipe, by name or YAML file"
    )
    parser.add_argument("--views", type=int, default=8, help="of each image, by segmentation networks (default 8)")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("output/sweep"),
        help="folder of models and scores; what is there is not done again (default output/sweep)",
    )
    parser.add_argument("--device", default="cpu", help="of the trainings: cpu or cuda (default cpu)")
    parser.add_argument("--processes", type=int, default=2, help="trainings and scorings at once (default 2)")
    parser.add_argument("--cpu-threads", type=int, default=1, help="of each of them (default 1)")
    parser.add_argument("--figure", type=Path, help="PNG or SVG file (default beside the table)")
    options = common.arguments(parser, argv)
    _check_numbers(parser, options)
    _check_names(parser, options)
    return options


def _check_numbers(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if not all(number.isdigit() for number in options.labels.split(",")):
        parser.error(f"--labels must be numbers with commas between, got {options.labels}")
    options.labels = [int(number) for number in options.labels.split(",")]
    for name in _POSITIVE:
        value = getattr(options, name)
        if value is not None and value <= 0:
            parser.error(f"--{name.replace('_', '-')} must be positive, got {value}")
    if options.minutes is None and options.scale is None:
        options.minutes = 30.0


def _check_names(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    options.methods = options.methods.split(",")
    if not set(options.methods) <= set(METHODS):
        parser.error(f"--methods must be some of {','.join(METHODS)}, got {','.join(options.methods)}")
    options.recipes = dict(given.split("=", 1) for given in options.recipe if "=" in given)
    if len(options.recipes) < len(options.recipe) or not set(options.recipes) <= set(METHODS):
        parser.error(f"--recipe must be METHOD=NAME, got {' '.join(options.recipe)}")
    try:
        for method in options.methods:
            if method != REGISTRATION:
                load(recipe_name(method, options.recipes), options.seed)
    except (CallError, SettingsError) as error:
        parser.error(str(error))
