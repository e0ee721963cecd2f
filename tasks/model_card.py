"""Model card: what a trained network is, what it was trained on, how it is used, and what it must not be used for."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import pandas as pd

from covoxel import __version__
from covoxel.training.registration import Recipe, TrainedRegistration

ROWS = 10
_LEARNT_FROM = {
    "images": "images alone, without labels",
    "labels": "images, and label maps",
    "warps": "images under synthetic warps that are known, without labels",
}
LAID = {
    "none": "none: images are taken where their headers put them",
    "centre": "centre on centre, axes nearest to RAS",
    "affine": "an affine transform to one image of the cohort",
}


@dataclass(frozen=True)
class Run:
    """The run that ended a training: seconds, device, precision, how many, whether it went on from a checkpoint."""

    seconds: float
    device: str
    precision: str
    devices: int
    resumed: bool


@dataclass(frozen=True)
class CardFacts:
    """What a card says of a training; counts and numbers, no name of a case and no folder.

    Parameters
    ----------
    recipe
        How it was trained.
    parameters
        Numbers in the network.
    shape, spacing_mm
        Of the frame that all images were laid on.
    cases
        How many images it was trained on.
    drawn, predicted
        How many label maps of atlases, and how many predicted ones of other cases, taught it.
    left_out
        How many predicted ones did not fit.
    structures
        Names of the structures whose labels taught it; their values where they have no name.
    trained
        What training left.
    run
        The run that ended it.
    """

    recipe: Recipe
    parameters: int
    shape: Sequence[int]
    spacing_mm: Sequence[float]
    cases: int
    drawn: int
    predicted: int
    left_out: int
    structures: Sequence[str]
    trained: TrainedRegistration
    run: Run


def model_card(facts: CardFacts) -> str:
    """The card as Markdown."""
    parts = (
        _what(facts),
        _data(facts),
        _training(facts),
        _use(facts),
        _limits(facts),
        made_with(facts.run, facts.recipe.seed),
    )
    return f"# {facts.recipe.name}\n\n" + "\n\n".join(parts) + "\n"


def _what(facts: CardFacts) -> str:
    recipe = facts.recipe
    rows = {
        "network": f"`{recipe.network}`, {len(facts.shape)}-D, {facts.parameters} parameters",
        "learnt from": _LEARNT_FROM[recipe.supervision],
        "similarity": f"`{recipe.similarity.name}`",
        "regularisers": ", ".join(f"`{term.name}` × {term.weight:g}" for term in _penalties(recipe)) or "none",
        "alignment before it": LAID[recipe.alignment],
    }
    return (
        f"{recipe.method}\n\nA network that registers pairs of images. All settings are in `recipe.yaml`.\n\n"
        + bullets(rows)
    )


def _penalties(recipe: Recipe) -> tuple:
    return (*recipe.regularisers, *recipe.affine_regularisers, *recipe.consistency)


def _data(facts: CardFacts) -> str:
    rows = {
        "images": str(facts.cases),
        "label maps": label_maps(facts.drawn, facts.predicted, facts.left_out, facts.structures),
        "laid on": f"{times(facts.shape)} voxels of {times(facts.spacing_mm)} mm",
        "intensities": "scaled to about 0 to 1 by covoxel's `preprocess`",
    }
    return "## Data\n\n" + bullets(rows)


def label_maps(drawn: int, predicted: int, left_out: int, structures: Sequence[str], how: str = "predicted") -> str:
    """How many were drawn by hand and how many predicted; what an atlas brings is taken to be drawn."""
    if not drawn + predicted:
        return "none"
    unfit = f" ({left_out} more did not fit and were left out)" if left_out else ""
    return f"{drawn} drawn by hand (those of the atlases), {predicted} {how}{unfit}; of {', '.join(structures)}"


def _training(facts: CardFacts) -> str:
    trained = facts.trained
    ended = "stopped early, as it no longer got better" if trained.stopped_early else "ran to its end"
    kept = f"Kept are the weights of step {trained.best_step}."
    said = f"{trained.step} steps of {facts.recipe.batch} pairs; it {ended}. {kept}"
    notes = "".join(f"\n- {note}" for note in trained.notes)
    shown = [name for name in trained.curve.columns if name in ("step", "loss") or name.startswith("validation")]
    return f"## Training\n\n{said}{notes}\n\n{table(trained.curve[shown])}\n\nThe whole curve is in `curve.tsv`."


def _use(facts: CardFacts) -> str:
    return f"""## Use

Name the folder of this file in the settings of a run (`--settings`):

```yaml
register:
  engine: learned+svf   # the network, then a few steps of optimisation a pair; `learned` for the network alone
  model: models/{facts.recipe.name}   # this folder, as seen from where the run is started
```"""


def _limits(facts: CardFacts) -> str:
    lines = [
        "It knows the anatomy, field of view, spacing and contrast it was trained on. On others look at the result, or "
        "use the engine `svf`, which needs no training.",
        "It is for research and no medical device.",
    ]
    if facts.drawn + facts.predicted:
        lines.insert(
            1,
            "Labels that trained it must not score it: on cases whose labels it has seen, its Dice is too good. Score"
            " it on cases that were left out; `few-shot` knows the label maps again (`taught_by` in `model.json`) and"
            " gives their cases no score.",
        )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def made_with(run: Run, seed: int) -> str:
    """The last section: versions, device and time of the run that ended a training."""
    how = " (the part after it was interrupted)" if run.resumed else ""
    rows = {
        "versions": ", ".join(f"{name} {number}" for name, number in _versions().items()),
        "device": run.device if run.devices == 1 else f"{run.devices} × {run.device}",
        "precision": run.precision,
        "time": f"{run.seconds:.0f} seconds{how}",
        "seed": str(seed),
        "licence": "to be stated by whoever passes it on; mind the terms of the images and labels it was trained on",
    }
    return "## Made with\n\n" + bullets(rows)


def _versions() -> dict[str, str]:
    versions = {"covoxel": __version__, "python": platform.python_version()}
    for package in ("torch", "lightning-fabric"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def bullets(rows: Mapping[str, str]) -> str:
    """A list of names and what is to say of each, as Markdown."""
    return "\n".join(f"- **{name}**: {text}" for name, text in rows.items())


def table(curve: pd.DataFrame) -> str:
    """At most `ROWS` rows of the curve, the first and the last among them, as a Markdown table."""
    places = sorted({round(i * (len(curve) - 1) / max(1, ROWS - 1)) for i in range(ROWS)}) if len(curve) else []
    lines = ["| " + " | ".join(map(str, curve.columns)) + " |", "| --- " * len(curve.columns) + "|"]
    for _, row in curve.iloc[places].iterrows():
        lines.append("| " + " | ".join(_number(value) for value in row) + " |")
    return "\n".join(lines)


def _number(value: object) -> str:
    if isinstance(value, int | float):
        return "n/a" if pd.isna(value) else str(int(value)) if float(value).is_integer() else f"{value:.4g}"
    return str(value)


def times(numbers: Sequence[float]) -> str:
    """Sides or spacings with a cross between them."""
    return " × ".join(f"{number:g}" for number in numbers)
