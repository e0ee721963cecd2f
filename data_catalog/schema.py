"""The cohort: its cases, the role of each, and the guard that labels which score never train."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import pandas as pd
import pandera.pandas as pa

Role = Literal["atlas", "unlabelled", "test"]
ROLES: tuple[str, ...] = get_args(Role)

MAX_ID_LENGTH = 100
RESERVED_ENDING = "_confidence"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
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
    """An entry that is excluded: it did not become a case, or the label map of one.

    Parameters
    ----------
    id
        What it is called; no case of its cohort has this id.
    path
        The file or folder.
    reason
        Why: one sentence a radiographer understands.
    of_case
        Id of the case whose label map it would have been; "" for an image.
    """

    id: str
    path: Path
    reason: str
    of_case: str = ""

    def __post_init__(self) -> None:
        for name in ("id", "reason"):
            object.__setattr__(self, name, printable(getattr(self, name)))


def printable(text: str) -> str:
    """Text that every table and terminal takes: control characters and bytes that are no text are escaped."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


@dataclass(frozen=True)
class Count:
    """How many entries of a cohort's folder there were, and what became of them.

    Parameters
    ----------
    cases
        Number of cases.
    excluded
        Number of entries that are not used, each with its reason.
    ignored
        Number of entries that are left out on purpose, by kind.
    """

    cases: int
    excluded: int
    ignored: Mapping[str, int] = field(default_factory=dict)

    @property
    def seen(self) -> int:
        """Number of all entries."""
        return self.cases + self.excluded + sum(self.ignored.values())

    def __str__(self) -> str:
        """Such as "12 entries seen, 9 cases, 2 excluded, 1 ignored on purpose (1 hidden files)"."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.ignored.items()))
        ignored = f"{sum(self.ignored.values())} ignored on purpose" + (f" ({kinds})" if kinds else "")
        return f"{self.seen} entries seen, {self.cases} cases, {self.excluded} excluded, {ignored}"


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
        Entries that are excluded.
    ignore
        Value in label maps that marks voxels without a label, if the cohort has one; it is no structure.
    ignored
        Number of entries that are left out on purpose, by kind.
    """

    name: str
    root: Path
    cases: tuple[Case, ...]
    label_names: dict[int, str] = field(default_factory=dict)
    licence: str | None = None
    rejected: tuple[Rejected, ...] = ()
    ignore: int | None = None
    ignored: Mapping[str, int] = field(default_factory=dict)

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

    @property
    def count(self) -> Count:
        """How many entries there were, and what became of them before any file was opened."""
        return Count(len(self.cases), len(self.rejected), self.ignored)

    @cached_property
    def _by_id(self) -> dict[str, Case]:
        return {case.id: case for case in self.cases}

    def case(self, case_id: str) -> Case:
        """Case of that name; an unknown one is a `CohortError` that names the nearest."""
        if case_id in self._by_id:
            return self._by_id[case_id]
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
                raise CohortError(
                    f"case {case.id!r} of cohort {self.name!r} cannot be an atlas: {self._no_label(case.id)}"
                )
        named = set(ids)
        return replace(self, cases=tuple(_with_role(case, case.id in named) for case in self.cases))

    def _no_label(self, case_id: str) -> str:
        """Why a case has no label map."""
        return next((item.reason for item in self.rejected if item.of_case == case_id), "it has no label")


def _with_role(case: Case, is_atlas: bool) -> Case:
    if is_atlas:
        return replace(case, role="atlas")
    return replace(case, role="test" if case.role == "test" else "unlabelled", label=None)
