"""The cohort: its cases, the role of each, and the guard that labels which score never train."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, get_args

import pandas as pd
import pandera.pandas as pa

Role = Literal["atlas", "unlabelled", "test"]
ROLES: tuple[str, ...] = get_args(Role)

MAX_ID_LENGTH = 100
RESERVED_ENDING = "_confidence"
IMAGE_SUFFIXES = (".nii.gz", ".nii")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


class CohortError(ValueError):
    """A cohort, or what was asked of it, is wrong; the message is one sentence naming file, value and rule."""


class ScoringLabelError(CohortError):
    """A label that may only score was asked for as if it might train."""


def unsafe_id(case_id: str) -> str | None:
    """Why `case_id` cannot name a case, as the end of a sentence, or None if it can.

    A case's id becomes part of the names of its results, so it must be a plain file name on every system.
    """
    if ".." in case_id:
        return "a case name must not contain two dots in a row"
    if not _ID.fullmatch(case_id):
        return "a case name must start with a letter or digit and hold only letters A-Z, digits, dot, plus, _ and -"
    if len(case_id) > MAX_ID_LENGTH:
        return f"a case name must have at most {MAX_ID_LENGTH} characters, this one has {len(case_id)}"
    if case_id.lower().endswith(RESERVED_ENDING):
        return f"a case name must not end in {RESERVED_ENDING}, which is kept for results"
    return None


def nearest(word: str, known: Iterable[str]) -> str:
    """Sentence that names the known id nearest to `word`, or the first few known ones."""
    ids = list(known)
    by_lower = {name.lower(): name for name in ids}
    close = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    if close:
        return f"did you mean {by_lower[close[0]]!r}?"
    few = ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
    return f"known: {few or 'none'}."


@dataclass(frozen=True)
class Case:
    """One image of a cohort and what is known of it.

    Parameters
    ----------
    id
        Name of the case, unique in its cohort whatever the case of its letters; safe as a file name.
    image
        NIfTI file, or folder of one DICOM series.
    label
        Label map on the image's grid, or None. A `test` case never has one here: see `EvaluationLabels`.
    role
        "atlas": its label may be used; "unlabelled": its label, if any, is not used; "test": its label only scores.
    subject, session
        Who, and which visit ("" if there is one visit only).
    date
        ISO date of the visit, if known.

    Raises
    ------
    ScoringLabelError
        If a `test` case is given a label.
    CohortError
        If the id is unsafe, the role unknown, or an atlas lacks a label.
    """

    id: str
    image: Path
    label: Path | None
    role: Role
    subject: str
    session: str = ""
    date: str | None = None

    def __post_init__(self) -> None:
        reason = unsafe_id(self.id)
        if reason:
            raise CohortError(f"{self.id!r}: {reason}")
        if self.role not in ROLES:
            raise CohortError(f"case {self.id!r} has the role {self.role!r}; it must be one of {', '.join(ROLES)}")
        if self.role == "test" and self.label is not None:
            raise ScoringLabelError(f"case {self.id!r} is a test case: its label {self.label.name} may only score")
        if self.role == "atlas" and self.label is None:
            raise CohortError(f"case {self.id!r} cannot be an atlas: it has no label")

    def training_label(self) -> Path:
        """Label map that may be used to segment or to train.

        Raises
        ------
        ScoringLabelError
            If the case is not an atlas.
        """
        if self.role != "atlas" or self.label is None:
            raise ScoringLabelError(
                f"the label of case {self.id!r} was asked for training, but its role is {self.role!r}; "
                "only the labels of atlases may be used, all others may only score"
            )
        return self.label


@dataclass(frozen=True)
class Rejected:
    """A file that did not become a case, and why: one sentence a radiographer understands."""

    id: str
    path: Path
    reason: str


CASE_TABLE = pa.DataFrameSchema(
    {
        "id": pa.Column(str, pa.Check(lambda ids: ids.map(unsafe_id).isna()), unique=True),
        "image": pa.Column(str, pa.Check.str_length(min_value=1)),
        "label": pa.Column(str, nullable=True),
        "role": pa.Column(str, pa.Check.isin(ROLES)),
        "subject": pa.Column(str, pa.Check.str_length(min_value=1)),
        "session": pa.Column(str),
        "date": pa.Column(str, nullable=True),
    },
    checks=[
        pa.Check(lambda t: (t["role"] != "test") | t["label"].isna(), error="a test case carries a label"),
        pa.Check(lambda t: (t["role"] != "atlas") | t["label"].notna(), error="an atlas has no label"),
    ],
    strict=True,
    ordered=True,
    name="cases",
)


@dataclass(frozen=True)
class Cohort:
    """The cases of one study.

    Parameters
    ----------
    name
        What the cohort is called.
    root
        Folder (or table) it was read from.
    cases
        In a fixed order, ids unique whatever the case of their letters.
    label_names
        Label value to name of the structure, background left out; empty if unknown.
    licence
        As the cohort states it, or None.
    rejected
        Files that did not become cases.
    """

    name: str
    root: Path
    cases: tuple[Case, ...]
    label_names: dict[int, str] = field(default_factory=dict)
    licence: str | None = None
    rejected: tuple[Rejected, ...] = ()

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for case in self.cases:
            if case.id.lower() in seen:
                raise CohortError(
                    f"cohort {self.name!r} has two cases named {seen[case.id.lower()]!r} and {case.id!r}; "
                    "names must differ in more than upper and lower case"
                )
            seen[case.id.lower()] = case.id

    @property
    def atlases(self) -> tuple[Case, ...]:
        """Cases whose labels may be used, in the cohort's order."""
        return tuple(case for case in self.cases if case.role == "atlas")

    def table(self) -> pd.DataFrame:
        """Case table, one row a case: id, image, label, role, subject, session, date (all text; missing = None)."""
        rows = [
            {
                "id": case.id,
                "image": str(case.image),
                "label": None if case.label is None else str(case.label),
                "role": case.role,
                "subject": case.subject,
                "session": case.session,
                "date": case.date,
            }
            for case in self.cases
        ]
        table = pd.DataFrame(rows, columns=list(CASE_TABLE.columns)).astype("str")
        return CASE_TABLE.validate(table)

    def case(self, case_id: str) -> Case:
        """Case of that name; an unknown one is a `CohortError` that names the nearest."""
        for case in self.cases:
            if case.id == case_id:
                return case
        for rejected in self.rejected:
            if rejected.id == case_id:
                raise CohortError(f"case {case_id!r} of cohort {self.name!r} was set aside: {rejected.reason}")
        raise CohortError(
            f"there is no case {case_id!r} in cohort {self.name!r}; {nearest(case_id, (c.id for c in self.cases))}"
        )

    def select(self, ids: Sequence[str]) -> "Cohort":
        """The cohort with these cases alone, in the order given."""
        return replace(self, cases=tuple(self.case(case_id) for case_id in ids))

    def with_atlases(self, ids: Sequence[str]) -> "Cohort":
        """The cohort in which these cases, and no others, are atlases.

        All other cases lose their label: it cannot reach anything that trains or fuses.

        Raises
        ------
        CohortError
            If no id is given, one is given twice or unknown, or the case has no label.
        ScoringLabelError
            If one is a test case.
        """
        if not ids:
            raise CohortError("at least one atlas must be named")
        twice = sorted({case_id for case_id in ids if list(ids).count(case_id) > 1})
        if twice:
            raise CohortError(f"atlas {twice[0]!r} is named twice; each atlas must be named once")
        for case in map(self.case, ids):
            if case.role == "test":
                raise ScoringLabelError(f"case {case.id!r} is a test case of {self.name!r} and cannot be an atlas")
            if case.label is None:
                raise CohortError(f"case {case.id!r} of cohort {self.name!r} cannot be an atlas: it has no label")
        return replace(self, cases=tuple(_with_role(case, case.id in set(ids)) for case in self.cases))


def _with_role(case: Case, is_atlas: bool) -> Case:
    if is_atlas:
        return replace(case, role="atlas")
    return replace(case, role="test" if case.role == "test" else "unlabelled", label=None)


@dataclass(frozen=True)
class EvaluationLabels:
    """True labels in a folder that only scoring may read: the one way to them.

    Parameters
    ----------
    folder
        Holds `ID.nii.gz` (or `ID.nii`, `ID_dseg.nii.gz`) for each case with a true label.

    Raises
    ------
    CohortError
        If there is no such folder.
    """

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        if not self.folder.is_dir():
            raise CohortError(f"the folder of true labels {self.folder} does not exist")

    def path(self, case_id: str) -> Path:
        """True label map of a case.

        Raises
        ------
        CohortError
            If the folder has none for it (see `in`).
        """
        found = self._find(case_id)
        if found is None:
            raise CohortError(f"the folder of true labels {self.folder} has no {case_id}.nii.gz")
        return found

    def __contains__(self, case_id: str) -> bool:
        """Whether the folder has a true label map for the case."""
        return self._find(case_id) is not None

    def _find(self, case_id: str) -> Path | None:
        if unsafe_id(case_id):
            return None
        names = [f"{case_id}{infix}{suffix}" for infix in ("", "_dseg") for suffix in IMAGE_SUFFIXES]
        return next((self.folder / name for name in names if (self.folder / name).is_file()), None)
