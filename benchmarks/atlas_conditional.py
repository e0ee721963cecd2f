"""Conditional templates: how much of an effect of age that was built into a synthetic cohort comes out.

Run from the project's root: python -m benchmarks.atlas_conditional --output conditional.tsv
and with --picture FILE for the templates over age and the trends of the volumes.
"""

import argparse
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Picture

from benchmarks import common
from benchmarks.common import Bar
from benchmarks.measure import Stopwatch, say, use_threads
from covoxel.atlas import build_template
from covoxel.atlas.conditional import ConditionalTemplate, build_conditional
from covoxel.io.atomic import atomic_path
from covoxel.preprocessing import normalise
from covoxel.report.conditional import VolumePlot, templates_figure, volumes_figure
from covoxel.spatial import Image
from covoxel.testing.ageing import CHANGING, STABLE, Person, draw_people

AGES = (50.0, 80.0)
LEAST, MOST, NONE_PERCENT = 0.8, 1.2, 0.2
NOTES = (
    "built_in: percent a year by which the structure changes in every person. in_these: of the true volumes of the",
    "  people drawn, who differ by chance as well; found: of the template between 50 and 80 years; unrefined: without",
    "  rounds, from the placements of the template as it was built. stable, stable_in_these: of the other structure.",
    "ratio: found over in_these. seconds: template and rounds, one core.",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=32, help="people in 2-D (default 32)")
    parser.add_argument("--cases-3d", type=int, default=20, help="people in 3-D; 0: none (default 20)")
    parser.add_argument("--seeds", type=int, default=3, help="cohorts in 2-D; 0: none (default 3)")
    parser.add_argument("--rate", type=float, default=-1.0, help="percent a year (default -1)")
    parser.add_argument("--picture", type=Path, help="PNG file for the picture of the first cohort")
    options = common.arguments(parser, argv)
    use_threads(1)
    torch.set_num_threads(1)
    common.describe_run(seed=options.seed, processes=1, threads=1)
    flat, deep = (80, 80), (36, 36, 36)
    seeds = range(options.seed, options.seed + options.seeds)
    rows = [
        row_of(options.cases, flat, options.rate, seed, options.picture if seed == options.seed else None)
        for seed in seeds
    ]
    if options.seeds:
        rows.append(row_of(options.cases, flat, 0.0, options.seed + options.seeds))
    if options.cases_3d:
        rows.append(row_of(options.cases_3d, deep, options.rate, options.seed))
    common.finish(rows, bars_of(rows), options.output, NOTES)


def bars_of(rows: Sequence[Mapping[str, Any]]) -> list[Bar]:
    """What was promised."""
    bars = []
    for row in rows:
        name = f"{row['dimensions']}-D, seed {row['seed']}"
        if row["built_in"] == 0:
            bars.append(Bar(f"{name}, no effect: found, % a year", abs(row["found"]), NONE_PERCENT, False))
            continue
        bars.append(Bar(f"{name}: found, of what is in these people", row["ratio"], LEAST, True))
        bars.append(Bar(f"{name}: found, of what is in these people", row["ratio"], MOST, False))
    flat = [row for row in rows if row["built_in"] and row["dimensions"] == 2]
    if flat:
        mean = float(np.mean([row["found"] / row["built_in"] for row in flat]))
        bars.append(Bar("2-D, mean over seeds: found, of what was built in", mean, LEAST, True))
        bars.append(Bar("2-D, mean over seeds: found, of what was built in", mean, MOST, False))
    return bars


def row_of(cases: int, shape: tuple[int, ...], rate: float, seed: int, picture: Path | None = None) -> dict[str, Any]:
    """What comes out of one cohort."""
    people = draw_people(cases, percent_per_year=rate, shape=shape, ages=AGES, seed=seed)
    images = {name: Image(normalise(person.image), person.image.grid) for name, person in people.items()}
    known = {name: {"age": person.age} for name, person in people.items()}
    labels = {name: person.label_map for name, person in people.items()}
    with Stopwatch() as watch:
        start = build_template(images)
        found = build_conditional(images, start, known, ["age"], labels=labels)
    plain = build_conditional(images, start, known, ["age"], labels=labels, rounds=0)
    if picture is not None:
        draw(found, people, picture)
    true = {label: true_percent(people, label) for label in (CHANGING, STABLE)}
    row = {
        "dimensions": len(shape),
        "cases": cases,
        "seed": seed,
        "built_in": rate,
        "in_these": true[CHANGING],
        "found": percent(found, CHANGING),
        "ratio": percent(found, CHANGING) / true[CHANGING] if rate else float("nan"),
        "unrefined": percent(plain, CHANGING),
        "stable_in_these": true[STABLE],
        "stable": percent(found, STABLE),
        "seconds": watch.seconds,
    }
    say(f"{len(shape)}-D, seed {seed}: {row['found']:.3f} of {row['in_these']:.3f} % a year")
    return row


def percent(template: ConditionalTemplate, label: int) -> float:
    """Change of the volume of a structure of the template, percent a year, compound."""
    young, old = (template.at({"age": age}).volumes_mm3(template.labels)[label] for age in AGES)
    return 100 * math.expm1(math.log(old / young) / (AGES[1] - AGES[0]))


def true_percent(people: Mapping[str, Person], label: int) -> float:
    """Change of the true volume over the people, percent a year, compound: least squares of its logarithm."""
    logs = np.log([person.volumes_mm3[label] for person in people.values()])
    return 100 * math.expm1(float(np.polyfit([person.age for person in people.values()], logs, 1)[0]))


def draw(template: ConditionalTemplate, people: Mapping[str, Person], path: Path) -> None:
    """The templates at four ages above the volumes of the people and of the template."""
    shown: dict[str, tuple[Image, Image | None]] = {}
    for age in (50.0, 60.0, 70.0, 80.0):
        at = template.at({"age": age})
        assert at.probabilities is not None
        likeliest = torch.tensor(template.labels)[at.probabilities.argmax(0)]
        shown[f"{age:g} years"] = at.image, Image(likeliest, at.image.grid)
    ages = [float(age) for age in range(50, 81, 5)]
    plots = [
        VolumePlot(
            label,
            name,
            "age",
            [(person.age, person.volumes_mm3[label]) for person in people.values()],
            [(age, template.at({"age": age}).volumes_mm3(template.labels)[label]) for age in ages],
        )
        for label, name in ((CHANGING, "shrinks by 1 % a year"), (STABLE, "does not change"))
    ]
    above, below = (
        Picture.open(io.BytesIO(png)).convert("RGB") for png in (templates_figure(shown), volumes_figure(plots))
    )
    below = below.resize((above.width, round(below.height * above.width / below.width)), Picture.Resampling.LANCZOS)
    sheet = Picture.new("RGB", (above.width, above.height + below.height), "white")
    sheet.paste(above, (0, 0))
    sheet.paste(below, (0, above.height))
    with atomic_path(path) as temporary:
        sheet.quantize(128).save(temporary, format="PNG", optimize=True)


if __name__ == "__main__":
    main()
