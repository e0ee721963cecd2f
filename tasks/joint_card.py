"""Model card of joint training: what networks are for, what they learnt from, what the alarm said, and their limits."""

from collections.abc import Sequence
from dataclasses import dataclass

from covoxel.training.joint import JointRecipe
from tasks.joint_training import JointOutcome
from tasks.model_card import LAID, Run, bullets, label_maps, made_with, table, times
from tasks.trainings import names_no_case


@dataclass(frozen=True, eq=False)
class JointCardFacts:
    """What a card says of a joint training; counts and numbers, no name of a case and no folder.

    Parameters
    ----------
    outcome
        What training left.
    shape, spacing_mm
        Of the frame that all images were laid on.
    cases
        Ids of the cases that trained; their number is said.
    drawn, fused
        How many label maps of atlases, and how many fused ones of other cases, taught.
    partial
        How many atlases lack structures that others have.
    left_out
        How many fused ones did not fit.
    structures
        Names of the structures whose labels taught, their values where they have no name.
    run
        The run that ended it.
    """

    outcome: JointOutcome
    shape: Sequence[int]
    spacing_mm: Sequence[float]
    cases: Sequence[str]
    drawn: int
    fused: int
    partial: int
    left_out: int
    structures: Sequence[str]
    run: Run


def joint_card(facts: JointCardFacts) -> str:
    """The card as Markdown."""
    parts = (
        _what(facts),
        _data(facts),
        _training(facts),
        _alarm(facts),
        _use(facts),
        _limits(facts),
        made_with(facts.run, facts.outcome.recipe.seed),
    )
    return f"# {facts.outcome.recipe.name}\n\n" + "\n\n".join(parts) + "\n"


def _what(facts: JointCardFacts) -> str:
    recipe, ndim = facts.outcome.recipe, len(facts.shape)
    counted = {
        name: f"{sum(part.numel() for part in network.parameters())} parameters"
        for name, network in facts.outcome.networks.items()
    }
    if isinstance(recipe, JointRecipe):
        what = "A network that registers pairs of images and one that segments single images; each taught the other."
        named = {"registration": recipe.registration.network, "segmentation": recipe.segmentation.network}
    else:
        what = "One network that registers a pair of images and segments the fixed one, beside a labelled moving one."
        named = {"network": recipe.network}
    rows = {name: f"`{network}`, {ndim}-D, {counted.get(name, 'not trained')}" for name, network in named.items()}
    rows["alignment before it"] = LAID[recipe.registration.alignment]
    return f"{recipe.method}\n\n{what} All settings are in `recipe.yaml`.\n\n" + bullets(rows)


def _data(facts: JointCardFacts) -> str:
    maps = label_maps(facts.drawn, facts.fused, facts.left_out, facts.structures, "fused of theirs")
    some = "1 atlas lacks" if facts.partial == 1 else f"{facts.partial} atlases lack"
    rows = {
        "images": str(len(facts.cases)),
        "label maps": maps,
        **({"label sets": f"{some} structures of others; nothing is taught of them there"} if facts.partial else {}),
        "laid on": f"{times(facts.shape)} voxels of {times(facts.spacing_mm)} mm",
        "intensities": "scaled to about 0 to 1 by covoxel's `preprocess`",
    }
    return "## Data\n\n" + bullets(rows)


def _training(facts: JointCardFacts) -> str:
    curve = facts.outcome.curve
    shown = [name for name in curve.columns if name in ("phase", "step", "loss") or str(name).endswith("_loss")]
    told = [note for note in facts.outcome.notes if names_no_case(note, facts.cases)]
    notes = "".join(f"- {note}\n" for note in told) + "\n" if told else ""
    return f"## Training\n\n{notes}{table(curve[shown])}\n\nThe whole curve is in `curve.tsv`."


def _alarm(facts: JointCardFacts) -> str:
    sentences = "\n".join(f"- {verdict.sentence}" for verdict in facts.outcome.verdicts)
    return f"## Joint against separate training\n\n{sentences or 'It was not checked whether joint training hurts.'}"


def _use(facts: JointCardFacts) -> str:
    name = facts.outcome.recipe.name
    text = f"""## Use

Name the folder of this file in the settings of a run (`--settings`):

```yaml
segment:
  segmenter: auto  # for each case the fused atlases or this model; `joint` for this model alone
  model: models/{name}  # this folder, as seen from where the run is started
```"""
    if not isinstance(facts.outcome.recipe, JointRecipe):
        return text
    return f"""{text}

Its registration network alone drives the engines:

```yaml
register:
  engine: learned+svf
  model: models/{name}/registration
```"""


def _limits(facts: JointCardFacts) -> str:
    lines = [
        "It knows the anatomy, field of view, spacing and contrast it was trained on. On others look at the result.",
        "It is for research and no medical device.",
    ]
    if facts.drawn + facts.fused:
        lines.insert(
            1,
            "Labels that trained it must not score it: on cases whose labels it has seen, its Dice is too good. "
            "`few-shot` knows the label maps again (`taught_by` in `joint.json`) and gives their cases no score.",
        )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)
