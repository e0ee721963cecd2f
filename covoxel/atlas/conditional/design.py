"""Design: covariates of cases as centred numbers, so that zero is the middle of the cohort."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Self

import numpy as np
from numpy.typing import NDArray

Value = float | str
"""A number, or the name of a level."""

CASES_A_COLUMN = 3
_REACH = 0.5
"""How far beyond the range of the cohort a template may be asked for, as part of that range."""


class CovariateError(ValueError):
    """Covariates by which no template can be conditioned, or a value for which there is none; one sentence."""


@dataclass(frozen=True)
class Column:
    """One number that is known of each case.

    Parameters
    ----------
    covariate
        Its name.
    level
        Of a category: the number is 1 for this level and 0 for others. None for a number.
    power
        To which a number is raised, after it was standardised.
    mean
        What is subtracted, so that the mean over the cases is zero.
    """

    covariate: str
    level: str | None
    power: int
    mean: float


@dataclass(frozen=True)
class Scale:
    """Mean, standard deviation and range of a covariate that is a number."""

    mean: float
    spread: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Design:
    """Columns of the regression of a cohort on its covariates.

    Parameters
    ----------
    columns
        In the order of the coefficients.
    scales
        Of covariates that are numbers, by name.
    levels
        Of covariates that are categories, by name, with the number of cases of each.
    cases
        Number of cases.
    """

    columns: tuple[Column, ...]
    scales: Mapping[str, Scale]
    levels: Mapping[str, Mapping[str, int]]
    cases: int

    @classmethod
    def of(cls, known: Mapping[str, Mapping[str, Value]], covariates: Sequence[str], *, degree: int = 1) -> Self:
        """Design of cases by id, of all of which all covariates are known.

        Parameters
        ----------
        known
            Covariates by name of each case by id.
        covariates
            Names of those to be used, each once.
        degree
            Of the polynomial in each number: 1 straight, 2 bent.

        Raises
        ------
        CovariateError
            If a covariate is the same for all, is a number for some only, has a level with one case, several say the
            same, or there are too few cases.
        """
        columns: list[Column] = []
        scales: dict[str, Scale] = {}
        levels: dict[str, Mapping[str, int]] = {}
        for name in covariates:
            values = [row[name] for row in known.values()]
            _check_varies(name, values)
            if all(_is_number(value) for value in values):
                numbers = np.asarray(values, dtype=np.float64)
                scales[name] = Scale(*map(float, (numbers.mean(), numbers.std(), numbers.min(), numbers.max())))
                columns += _powers(name, (numbers - scales[name].mean) / scales[name].spread, degree)
            else:
                levels[name] = _counted(name, values)
                columns += _indicators(name, levels[name], len(values))
        _check_count(len(known), len(columns), covariates)
        design = cls(tuple(columns), scales, levels, len(known))
        if np.linalg.matrix_rank(design.matrix(known.values()), tol=1e-6 * len(known) ** 0.5) < len(columns):
            raise CovariateError(
                f"the covariates {', '.join(covariates)} cannot be told apart in the {len(known)} cases; leave one out"
            )
        return design

    @property
    def covariates(self) -> tuple[str, ...]:
        """Names of the covariates."""
        return tuple(dict.fromkeys(column.covariate for column in self.columns))

    def matrix(self, rows: Iterable[Mapping[str, Value]]) -> NDArray[np.float64]:
        """`(row, column)` of cases, of which more may be known than the covariates."""
        own = self.covariates
        return np.stack([self.row({name: values[name] for name in own if name in values}) for values in rows])

    def row(self, values: Mapping[str, Value]) -> NDArray[np.float64]:
        """`(column,)` of values by covariate; one that is not named is at the middle of the cohort.

        Raises
        ------
        CovariateError
            If a covariate or a level is unknown, or a number is none.
        """
        for name, value in values.items():
            self._check_known(name, value)
        return np.asarray([self._number(column, values) for column in self.columns])

    def weights(self, known: Mapping[str, Mapping[str, Value]]) -> dict[str, NDArray[np.float64]]:
        """By id, by what a case is multiplied so that the sum over the cases is the coefficients, `(column,)`.

        Least squares; the weights of a column sum to zero, so that what all cases share has no influence.
        """
        inverse: NDArray[np.float64] = np.linalg.pinv(self.matrix(known.values())).astype(np.float64)
        return {case: inverse[:, number] for number, case in enumerate(known)}

    def outside(self, values: Mapping[str, Value]) -> str | None:
        """What to say of numbers outside the range of the cohort, None if there are none.

        Raises
        ------
        CovariateError
            If it lies so far outside that no template can be had.
        """
        bent, found = any(column.power > 1 for column in self.columns), []
        for name, scale in self.scales.items():
            value = values.get(name, scale.mean)
            assert not isinstance(value, str)
            if scale.low <= value <= scale.high:
                continue
            room = 0.0 if bent else _REACH * (scale.high - scale.low)
            told = f"{name} = {value:g} lies outside the cohort, which reaches from {scale.low:g} to {scale.high:g}"
            if not scale.low - room <= value <= scale.high + room:
                raise CovariateError(f"{told}; templates can be had from {scale.low - room:g} to {scale.high + room:g}")
            found.append(f"{told}: that template is extrapolated")
        return "; ".join(found) or None

    def _number(self, column: Column, values: Mapping[str, Value]) -> float:
        if column.covariate not in values:
            return 0.0
        value = values[column.covariate]
        if column.level is not None:
            return float(value == column.level) - column.mean
        scale = self.scales[column.covariate]
        return ((float(value) - scale.mean) / scale.spread) ** column.power - column.mean

    def _check_known(self, name: str, value: Value) -> None:
        if name in self.levels:
            if value not in self.levels[name]:
                raise CovariateError(f"{name} = {value} is not known; {name} is one of {', '.join(self.levels[name])}")
        elif name not in self.scales:
            raise CovariateError(f"{name} is no covariate of this template; it has {', '.join(self.covariates)}")
        elif isinstance(value, str) or not _is_number(value) or not np.isfinite(value):
            raise CovariateError(f"{name} must be a number, got {value!r}")


def _is_number(value: Value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_varies(name: str, values: Sequence[Value]) -> None:
    text = sorted({value for value in values if isinstance(value, str)})
    if text and len(text) < len(set(values)):
        raise CovariateError(f"{name} must be a number for all cases or for none, got {text[0]!r} among numbers")
    if len(set(values)) < 2:
        same = f"the same ({values[0] if isinstance(values[0], str) else f'{values[0]:g}'})" if values else "unknown"
        raise CovariateError(f"{name} is {same} for all cases; it cannot condition a template")


def _check_count(cases: int, columns: int, covariates: Sequence[str]) -> None:
    least = CASES_A_COLUMN * (columns + 1)
    if cases < least:
        raise CovariateError(
            f"a template by {', '.join(covariates)} needs {least} cases or more of which they are known, got {cases}"
        )


def _powers(name: str, standard: NDArray[np.float64], degree: int) -> list[Column]:
    return [Column(name, None, power, float((standard**power).mean())) for power in range(1, degree + 1)]


def _counted(name: str, values: Sequence[Value]) -> dict[str, int]:
    counts = Counter(str(value) for value in values)
    lonely = sorted(level for level, count in counts.items() if count < 2)
    if lonely:
        raise CovariateError(f"{name} = {lonely[0]} has one case only; a level needs two or more")
    return dict(sorted(counts.items()))


def _indicators(name: str, counts: Mapping[str, int], cases: int) -> list[Column]:
    """A column for each level but the commonest."""
    commonest = min(counts, key=lambda level: (-counts[level], level))
    return [Column(name, level, 1, count / cases) for level, count in counts.items() if level != commonest]
