"""Subjects: the visits of each person, in the order of their dates, under a name that is safe for files."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from hashlib import sha256

from covoxel.longitudinal import DateError, parse_date, years_since_first
from data_catalog import Case
from data_catalog.schema import unsafe_id
from tasks.study import Study

NO_DATE = "no date, so it takes no part in rates of change"


@dataclass(frozen=True)
class Subject:
    """A person and the sound visits of this run.

    Parameters
    ----------
    key
        Name for files and records, the subject's own where that is safe.
    name
        As the cohort has it.
    visits
        By date, those without one last.
    """

    key: str
    name: str
    visits: tuple[Case, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the visits."""
        return tuple(case.id for case in self.visits)

    @property
    def years(self) -> dict[str, float]:
        """Years since the first visit of those that have a date."""
        return years_since_first({case.id: day for case in self.visits if (day := day_of(case)) is not None})


def subjects_of(study: Study) -> tuple[Subject, ...]:
    """All subjects of a run that have a sound visit, ten after nine and not after one.

    One that is an atlas and was seen once is none: nothing is asked about it.
    """
    visits: dict[str, list[Case]] = {}
    for case in study.selected:
        if study.is_sound(case.id):
            visits.setdefault(case.subject, []).append(case)
    # Of all subjects of the cohort, so that a name does not hang on who else is asked about.
    keys = safe_keys(case.subject for case in study.cohort.cases)
    return tuple(
        Subject(keys[name], name, tuple(sorted(cases, key=_by_date)))
        for name, cases in sorted(visits.items(), key=lambda item: natural(item[0]))
        if len(cases) > 1 or cases[0].role != "atlas"
    )


def safe_keys(names: Iterable[str]) -> dict[str, str]:
    """A file name for each subject, its own name where that is safe and differs from others by more than case."""
    known = dict.fromkeys(names)
    alike = Counter(name.lower() for name in known)
    return {name: name if unsafe_id(name) is None and alike[name.lower()] == 1 else _hidden(name) for name in known}


def _hidden(name: str) -> str:
    return f"subject-{sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """Key by which names sort as people count: sub-2 before sub-10."""
    parts = re.split(r"([0-9]+)", name)
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts if part)


def day_of(case: Case) -> date | None:
    """Day of a visit; None without a date or with one that is none."""
    try:
        return None if case.date is None else parse_date(case.date)
    except DateError:
        return None


def flag_dates(study: Study) -> None:
    """Remark on visits that have no date, or one that is none."""
    for subject in subjects_of(study):
        for case in subject.visits if len(subject.visits) > 1 else ():
            try:
                if case.date is None:
                    study.flag(case.id, NO_DATE)
                else:
                    parse_date(case.date)
            except DateError as error:
                study.flag(case.id, f"{error}; it takes no part in rates of change")


def spread_failures(study: Study, stage: str) -> None:
    """Let the visits of a subject fail with the reason for which a stage of the subject failed."""
    for subject in subjects_of(study):
        if study.record(stage, subject.key) is None and subject.key in study.failed:
            for case in subject.ids:
                study.failed[case] = f"its subject: {study.failed[subject.key]}"


def _by_date(case: Case) -> tuple[bool, date, tuple[tuple[int, int | str], ...]]:
    day = day_of(case)
    return day is None, day or date.max, natural(f"{case.session} {case.id}")
