"""When visits were: dates as people write them, to years since the first visit."""

from collections.abc import Mapping
from datetime import date

DAYS_A_YEAR = 365.25


class DateError(ValueError):
    """A date is none; the message is a sentence."""


def parse_date(text: str) -> date:
    """Day of an ISO date or date and time, `2024-03-01` or `2024-03-01T12:30:00`.

    Raises
    ------
    DateError
        If it is no such date.
    """
    try:
        return date.fromisoformat(text.strip()[:10])
    except ValueError:
        raise DateError(f"the date must be year-month-day, such as 2024-03-01, got {text!r}") from None


def years_since_first(dates: Mapping[str, date]) -> dict[str, float]:
    """Years since the earliest visit, by the id of the visit; {} without dates."""
    if not dates:
        return {}
    first = min(dates.values())
    return {visit: (day - first).days / DAYS_A_YEAR for visit, day in dates.items()}
