"""The command line: `python -m flows VERB`."""

import sys

from flows import interrupt
from flows.first_line import write_first_line

if __name__ == "__main__":  # from the first moment: what follows takes a while
    interrupt.listen()
    write_first_line(sys.argv[1:])

from pathlib import Path
from typing import Annotated

import typer

from flows.asked import asked_for
from flows.commands import deploying, run_call, run_demo, run_stage, say, show_status
from flows.options import (
    GO_ON,
    At,
    Atlases,
    By,
    Cases,
    Cohort,
    Correct,
    Device,
    Evaluate,
    LastAtlases,
    LastCases,
    LastCohort,
    OfRun,
    Output,
    Participants,
    Route,
    Rule,
    Segmenter,
    Settings,
    Workers,
)
from flows.quiet import leave_silently, silence_libraries
from flows.usage import Verbs
from tasks.recipe_files import joint_recipe_names, recipe_names
from tasks.settings import JOINT_RECIPE
from tasks.settings_file import default_yaml

app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Register and segment cohorts of medical images from a few labelled cases.\n\n"
    "Start with `python -m flows demo`: it needs no data and no server.\n\n"
    "Exit status: 0 all cases done; 2 the call or the settings are wrong and nothing was started; 3 some cases "
    "failed or were set aside and the rest are done; 1 anything else.",
)


@app.command("few-shot")
def few_shot(
    cohort: Cohort,
    atlases: Atlases,
    output: Output,
    settings: Settings = None,
    rule: Rule = None,
    segmenter: Segmenter = None,
    correct: Correct = None,
    route: Route = None,
    evaluate: Evaluate = None,
    cases: Cases = None,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Segment every case from the labels of the named atlases alone.

    Example: `python -m flows few-shot --cohort data/hippocampus --atlases h_001,h_002,h_003 --output out`
    """
    asked = asked_for(cohort, atlases, output, cases, device, workers, evaluate, rule, segmenter, correct)
    asked |= {} if route is None else {"route": route}
    raise typer.Exit(run_call("few-shot", settings, asked))


@app.command()
def preprocess(
    cohort: Cohort,
    output: Output,
    atlases: Annotated[
        str | None,
        typer.Option(metavar="ID,ID,…", help="Cases whose labels are checked and prepared too; may be left out."),
    ] = None,
    settings: Settings = None,
    cases: Cases = None,
    workers: Workers = None,
) -> None:
    """Check every image and prepare the sound ones; no label is needed.

    Example: `python -m flows preprocess --cohort data/hippocampus --output out`
    """
    raise typer.Exit(run_call("preprocess", settings, asked_for(cohort, atlases, output, cases, "auto", workers)))


@app.command(
    help=f"""Bring every atlas onto every case; keep the transforms as ITK files.

{GO_ON}

Example: `python -m flows register --cohort data/hippocampus --atlases h_001,h_002 --output out --cases h_010,h_011`
"""
)
def register(
    output: OfRun,
    cohort: LastCohort = None,
    atlases: LastAtlases = None,
    settings: Settings = None,
    cases: LastCases = None,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Run the stage `register`."""
    raise typer.Exit(run_stage("register", settings, asked_for(cohort, atlases, output, cases, device, workers)))


@app.command("build-atlas")
def build_atlas(
    cohort: Cohort,
    output: Output,
    atlases: Annotated[
        str | None,
        typer.Option(metavar="ID,ID,…", help="Cases whose labels make the label probabilities; may be left out."),
    ] = None,
    by: By = None,
    at: At = None,
    participants: Participants = None,
    settings: Settings = None,
    cases: Cases = None,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Build an unbiased template of the cases, with label probabilities and the transforms to it and back.

    It is left in `OUTPUT/atlas`; the section `template` of the settings says how it is built. A case whose
    registration does not converge is left out and named. Killed, it goes on where it was.

    With `--by` it becomes a function of age, sex or whatever else `participants.tsv` says of people; templates for the
    values of `--at`, and how volumes follow them, are left in `OUTPUT/atlas/conditional`.

    Example: `python -m flows build-atlas --cohort data/hippocampus --atlases h_001,h_002,h_003 --output out`
    """
    asked = asked_for(cohort, atlases, output, cases, device, workers) | {"builds_atlas": True}
    asked |= {"by": by, "at": at or [], "participants": participants}
    raise typer.Exit(run_call("build-atlas", settings, asked))


@app.command(
    "fuse-labels",
    help=f"""Fuse the labels of all atlases into one label map a case.

{GO_ON}

Example: `python -m flows fuse-labels --output out --rule majority`
""",
)
def fuse_labels(
    output: OfRun,
    cohort: LastCohort = None,
    atlases: LastAtlases = None,
    settings: Settings = None,
    rule: Rule = None,
    correct: Correct = None,
    cases: LastCases = None,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Run the stage `fuse`."""
    asked = asked_for(cohort, atlases, output, cases, device, workers, rule=rule, correct=correct)
    raise typer.Exit(run_stage("fuse-labels", settings, asked))


@app.command(
    help=f"""Segment every case by trained networks too, and keep the best label map of each.

With `--segmenter auto` that is the fused label map, a network's, or a mean of them, whichever is predicted best;
with `joint` or `nnunet` that network's, unless it failed. Networks are trained first, or are those of
`segment: {{model: FOLDER}}` and `segment: {{nnunet: {{model: FOLDER}}}}` in the settings. Which ones `auto` compares
is said by `segment: {{networks: [joint, nnunet]}}`.

{GO_ON}

Example: `python -m flows segment --output out --segmenter auto`
"""
)
def segment(
    output: OfRun,
    cohort: LastCohort = None,
    atlases: LastAtlases = None,
    settings: Settings = None,
    segmenter: Segmenter = None,
    cases: LastCases = None,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Run the flow `segment`."""
    asked = asked_for(cohort, atlases, output, cases, device, workers, segmenter=segmenter)
    raise typer.Exit(run_stage("segment", settings, asked))


@app.command(
    help=f"""Score, and write the tables and the report.

{GO_ON}

Example: `python -m flows report --output out --evaluate truth`
"""
)
def report(
    output: OfRun,
    cohort: LastCohort = None,
    atlases: LastAtlases = None,
    settings: Settings = None,
    evaluate: Evaluate = None,
    cases: LastCases = None,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Run the stage `report`."""
    asked = asked_for(cohort, atlases, output, cases, device, workers, evaluate)
    raise typer.Exit(run_stage("report", settings, asked))


@app.command()
def longitudinal(
    cohort: Cohort,
    atlases: Atlases,
    output: Output,
    settings: Settings = None,
    cases: Cases = None,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Follow every subject over all visits: label maps, volumes, rates of change a year, and what they are worth.

    The cohort needs dates: a table with subject, session and date, or BIDS with `sub-*_sessions.tsv`. A visit or a
    subject that comes later is added to what there is.

    Example: `python -m flows longitudinal --cohort data/visits.tsv --atlases a_1,a_2,a_3 --output out`
    """
    asked = asked_for(cohort, atlases, output, cases, device, workers) | {"follows": True}
    raise typer.Exit(run_call("longitudinal", settings, asked))


@app.command(
    "train-registration",
    help=f"""Train a network that registers pairs of images; then `few-shot` uses it in place of `svf`.

The model is left in `OUTPUT/models/RECIPE`: name that folder in the settings of `few-shot`, as
`register: {{engine: learned+svf, model: OUTPUT/models/RECIPE}}`. Cases with the role test do not train unless `--cases`
names them, and of all labels only those of `--atlases` are read. Killed, it goes on where it was.

Recipes: {", ".join(recipe_names())}; or your own YAML file.

Example: `python -m flows train-registration --cohort data/hippocampus --atlases h_001,h_002,h_003 --output out
--recipe lapirn-labels`
""",
)
def train_registration(
    cohort: Cohort,
    output: Output,
    recipe: Annotated[str, typer.Option(metavar="NAME|FILE.yaml", help="What is trained, and how.")],
    atlases: Annotated[
        str | None,
        typer.Option(metavar="ID,ID,…", help="Cases whose labels may teach; none where a recipe reads no label."),
    ] = None,
    settings: Settings = None,
    cases: Annotated[
        str | None,
        typer.Option(metavar="ID,ID,…", help="Only these cases, and the atlases; all but test cases without it."),
    ] = None,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Run the flow `train-registration`."""
    asked = asked_for(cohort, atlases, output, cases, device, workers) | {"recipe": recipe}
    raise typer.Exit(run_call("train-registration", settings, asked))


@app.command(
    "train-joint",
    help=f"""Train networks that register and segment, each by what the other one says.

The model is left in `OUTPUT/models/RECIPE`. It is said of each structure whether joint training helped it or hurt; if
it hurt, the network that was trained alone is used for it. Where the recipe lets fused labels teach, the atlases are
first registered and fused onto the other cases, as by `few-shot`. Cases with the role test do not train unless
`--cases` names them, and of all labels only those of `--atlases` are read. Killed, it goes on where it was.

Recipes: {", ".join(joint_recipe_names())}; or your own YAML file.

Example: `python -m flows train-joint --cohort data/hippocampus --atlases h_001,h_002,h_003 --output out`
""",
)
def train_joint(
    cohort: Cohort,
    output: Output,
    recipe: Annotated[str, typer.Option(metavar="NAME|FILE.yaml", help="What is trained, and how.")] = JOINT_RECIPE,
    atlases: Annotated[
        str | None,
        typer.Option(metavar="ID,ID,…", help="Cases whose labels teach; without any, registration alone is learnt."),
    ] = None,
    settings: Settings = None,
    cases: Annotated[
        str | None,
        typer.Option(metavar="ID,ID,…", help="Only these cases, and the atlases; all but test cases without it."),
    ] = None,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Run the flow `train-joint`."""
    asked = asked_for(cohort, atlases, output, cases, device, workers) | {"recipe": recipe, "trains": "joint"}
    raise typer.Exit(run_call("train-joint", settings, asked))


@app.command()
def demo(
    output: Output = Path("demo"),
    cases: Annotated[int, typer.Option(min=2, help="Cases to make.")] = 8,
    settings: Settings = None,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Run the whole chain on a built-in synthetic cohort, and say where the report is.

    Example: `python -m flows demo --output demo`
    """
    raise typer.Exit(run_demo(output, cases, settings, device, workers))


@app.command()
def status(output: Annotated[Path, typer.Option(help="Folder of a run.")]) -> None:
    """Say of each case whether it is done, failed or set aside, why, and what a rerun would do.

    Example: `python -m flows status --output out`
    """
    raise typer.Exit(show_status(output))


@app.command()
def settings() -> None:
    """Print the default settings as a commented YAML file.

    Example: `python -m flows settings > study.yaml`
    """
    say(default_yaml().rstrip("\n"))


@app.command()
def deploy(
    stop: Annotated[bool, typer.Option("--stop", help="Stop the server and worker that `deploy` started.")] = False,
    worker: Annotated[bool, typer.Option(help="Also start a process worker for the pool `cpu`.")] = True,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of the server; else 4200, or the next one that is free."),
    ] = None,
) -> None:
    """Set up Prefect on this machine: server, work pools, one process worker and all deployments. Safe to repeat.

    The server answers nobody who does not show its secret, which is drawn anew each time it starts, and lies in a file
    that only you can read. With PREFECT_API_URL set to a server that answers, that server is used and none is started.

    Example: `python -m flows deploy`, then `prefect deployment run few-shot/cpu …` as it says.
    """
    raise typer.Exit(deploying(stop, worker, port))


def main() -> None:
    """Run the command line."""
    interrupt.listen()
    silence_libraries()
    status: str | int | None = 0
    try:
        app(prog_name="python -m flows")
    except SystemExit as end:
        status = end.code
    leave_silently(status)


if __name__ == "__main__":
    main()
