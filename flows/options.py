"""Options that the verbs of the command line share."""

from pathlib import Path
from typing import Annotated

import typer

Cohort = Annotated[Path, typer.Option(help="Folder (BIDS, Decathlon, nnU-Net, images/ + labels/, DICOM) or table.")]
Atlases = Annotated[str, typer.Option(metavar="ID,ID,…", help="Cases whose labels may be used.")]
Output = Annotated[Path, typer.Option(help="Folder for results; run again with the same one to go on.")]
Settings = Annotated[Path | None, typer.Option(help="YAML file; see the verb `settings`.")]
Rule = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Fusion rule: select, majority, locally_weighted, joint_label_fusion …"),
]
Segmenter = Annotated[
    str | None,
    typer.Option(
        metavar="fusion|joint|nnunet|auto",
        help="Who segments: the fused atlases, a network trained on them, or for each case the best.",
    ),
]
Correct = Annotated[
    bool | None,
    typer.Option(
        "--correct/--no-correct",
        help="Learn from the atlases, each labelled by the others, to correct what fusion does wrong.",
        show_default=False,
    ),
]
Route = Annotated[
    str | None,
    typer.Option(
        metavar="direct|template",
        help="How atlases come onto a case: each by itself, or all through a template of theirs, which costs one "
        "registration a case.",
    ),
]
By = Annotated[
    str | None, typer.Option(metavar="COLUMN,COLUMN,…", help="Columns of participants.tsv that the template follows.")
]
At = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN=VALUE,…", help="Values for which templates are written; once for each column."),
]
Participants = Annotated[Path | None, typer.Option(help="That table; the one beside the cohort without it.")]
Evaluate = Annotated[Path | None, typer.Option(help="Folder of true labels ID.nii.gz that only scoring reads.")]
Cases = Annotated[str | None, typer.Option(metavar="ID,ID,…", help="Only these cases; all without it.")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.")]
Workers = Annotated[int | None, typer.Option(min=1, max=64, help="Cases at a time.")]

LastCohort = Annotated[Path | None, typer.Option(help="Folder or table; the last run's without it.")]
LastAtlases = Annotated[
    str | None, typer.Option(metavar="ID,ID,…", help="Cases whose labels may be used; as --cohort.")
]
LastCases = Annotated[str | None, typer.Option(metavar="ID,ID,…", help="Only these cases; as --cohort.")]
OfRun = Annotated[Path, typer.Option(help="Folder for results, or of the run to go on with.")]
GO_ON = (
    "Without --cohort and --atlases it goes on with the last run in --output, and what is not given is as it was there."
    " What comes before is done first, where it is missing."
)
