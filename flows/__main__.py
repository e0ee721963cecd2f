"""The command line: `python -m flows VERB`."""

import gc
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands import deploying, run_call, run_demo, say, show_status
from tasks.settings import default_yaml

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Register and segment cohorts of medical images from a few labelled cases.\n\n"
    "Start with `python -m flows demo`: it needs no data and no server.\n\n"
    "Exit status: 0 all cases done; 2 the call or the settings are wrong and nothing was started; 3 some cases "
    "failed or were set aside and the rest are done; 1 anything else.",
)

Cohort = Annotated[Path, typer.Option(help="Folder (BIDS, Decathlon, nnU-Net, images/ + labels/, DICOM) or table.")]
Atlases = Annotated[str, typer.Option(metavar="ID,ID,…", help="Cases whose labels may be used.")]
Output = Annotated[Path, typer.Option(help="Folder for results; run again with the same one to go on.")]
Settings = Annotated[Path | None, typer.Option(help="YAML file; see the verb `settings`.")]
Evaluate = Annotated[Path | None, typer.Option(help="Folder of true labels ID.nii.gz that only scoring reads.")]
Cases = Annotated[str | None, typer.Option(metavar="ID,ID,…", help="Only these cases; all without it.")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.")]
Workers = Annotated[int | None, typer.Option(min=1, max=64, help="Cases at a time.")]

STAGES = {
    "few-shot": (
        "Segment every case from the labels of the named atlases alone.",
        "--cohort data/hippocampus --atlases h_001,h_002,h_003 --output out",
    ),
    "preprocess": (
        "Check every image and prepare the sound ones.",
        "--cohort data/hippocampus --atlases h_001,h_002 --output out",
    ),
    "register": (
        "Bring every atlas onto every case; keep the transforms as ITK files.",
        "--cohort data/hippocampus --atlases h_001,h_002 --output out --cases h_010,h_011",
    ),
    "fuse-labels": (
        "Fuse the labels of all atlases into one label map a case.",
        "--cohort data/hippocampus --atlases h_001,h_002 --output out --settings majority.yaml",
    ),
    "report": (
        "Score, write the tables and the report; what came before is done first where it is missing.",
        "--cohort data/hippocampus --atlases h_001,h_002 --output out --evaluate truth",
    ),
}


def _add(verb: str, what: str, example: str) -> None:
    def command(
        cohort: Cohort,
        atlases: Atlases,
        output: Output,
        settings: Settings = None,
        evaluate: Evaluate = None,
        cases: Cases = None,
        device: Device = "auto",
        workers: Workers = None,
    ) -> None:
        asked: dict[str, Any] = {
            "cohort": cohort,
            "atlases": _ids(atlases),
            "output": output,
            "evaluate": evaluate,
            "cases": None if cases is None else _ids(cases),
            "device": device,
            "workers": workers,
        }
        raise typer.Exit(run_call(verb, settings, asked))

    app.command(verb, help=f"{what}\n\nExample: `python -m flows {verb} {example}`")(command)


for _verb, (_what, _example) in STAGES.items():
    _add(_verb, _what, _example)


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
) -> None:
    """Set up Prefect on this machine: server, work pools, one process worker and all deployments. Safe to repeat.

    With PREFECT_API_URL set to a server that answers, that server is used and none is started.

    Example: `python -m flows deploy`, then `prefect deployment run few-shot/main …` as it says.
    """
    raise typer.Exit(deploying(stop, worker))


def _ids(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def main() -> None:
    """Run the command line."""
    try:
        app(prog_name="python -m flows")
    finally:
        gc.freeze()  # nothing is collected at exit, which takes seconds with torch and Prefect loaded


if __name__ == "__main__":
    main()
