"""Mixed-effects model of a study: log-volume against time, group and covariates, each subject with its own line."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

TIME, SUBJECT, VOLUME = "years", "subject", "volume_mm3"
LEAST_SUBJECTS = 4
SLOPES, INTERCEPTS = "random intercept and slope", "random intercept"


@dataclass(frozen=True)
class Effect:
    """A fixed effect on the logarithm of the volume, its 95 % interval, and p of Wald's test."""

    term: str
    estimate: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Fitted:
    """A model of one structure.

    Parameters
    ----------
    kind
        "random intercept and slope", "random intercept", or "none".
    effects
        Fixed effects; none where no model could be fitted.
    subjects, visits
        That took part.
    notes
        Sentences: what was left out, and why a simpler model or none was taken.
    """

    kind: str
    effects: tuple[Effect, ...] = ()
    subjects: int = 0
    visits: int = 0
    notes: tuple[str, ...] = field(default_factory=tuple)


def fit_model(table: pd.DataFrame, covariates: Sequence[str] = (), group: str | None = None) -> Fitted:
    """Fit `log(volume) ~ years * group + covariates` with a random intercept and slope for each subject.

    Where that does not converge, the slopes are common; where there are too few data, there is no model. Either way a
    sentence says so.

    Parameters
    ----------
    table
        A row a visit of one structure: `subject`, `years`, `volume_mm3` and the covariates; text is a category. Visits
        without time or positive volume take no part, nor do subjects whose covariates are missing, who are counted.
    covariates
        Columns whose effects are added.
    group
        Column whose levels may change differently with time.

    Raises
    ------
    ValueError
        If a column is not there.

    References
    ----------
    Bernal-Rusiel et al., Statistical analysis of longitudinal neuroimage data with linear mixed effects models,
    NeuroImage 2013.
    """
    wanted = [*covariates, *([group] if group else [])]
    missing = [name for name in (SUBJECT, TIME, VOLUME, *wanted) if name not in table]
    if missing:
        raise ValueError(f"table must have the column {missing[0]!r}, it has {', '.join(map(str, table.columns))}")
    data, notes = _usable(table, wanted)
    terms, more = _terms(data, covariates, group)
    notes += more
    subjects, repeated = data[SUBJECT].nunique(), int((data.groupby(SUBJECT)[TIME].nunique() > 1).sum())
    if repeated < max(LEAST_SUBJECTS, len(terms) + 1):
        notes.append(
            f"no model: {repeated} subjects have visits at two times or more, "
            f"{max(LEAST_SUBJECTS, len(terms) + 1)} are needed"
        )
        return Fitted("none", (), subjects, len(data), tuple(notes))
    for kind in (SLOPES, INTERCEPTS):
        effects, why = _fit(data, terms, kind)
        if effects is not None:
            return Fitted(kind, effects, subjects, len(data), tuple(notes))
        notes.append(f"the model with a {kind} was not taken: {why}")
    return Fitted("none", (), subjects, len(data), tuple(notes))


def _usable(table: pd.DataFrame, wanted: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Rows that can take part, and sentences about those that cannot."""
    notes = []
    data = table[table[TIME].notna() & table[VOLUME].notna()]
    data = data[data[VOLUME] > 0].assign(log_volume=lambda rows: np.log(rows[VOLUME].astype(float)))
    for name in wanted:
        lost = sorted(data.loc[data[name].isna(), SUBJECT].unique())
        if lost:
            notes.append(f"{name} is missing for {len(lost)} subjects, who take no part: {', '.join(lost[:10])}")
            data = data[data[name].notna()]
    return data, notes


def _terms(data: pd.DataFrame, covariates: Sequence[str], group: str | None) -> tuple[list[str], list[str]]:
    """Terms of the formula beside time, and sentences about those that say nothing because they never differ."""
    terms, notes = [], []
    for name in dict.fromkeys([*covariates, *([group] if group else [])]):
        if data[name].nunique() < 2:
            notes.append(f"{name} is the same for all and takes no part")
        elif name == group:
            terms.append(f"{TIME}:{_quoted(data, name)}")
            terms.append(_quoted(data, name))
        else:
            terms.append(_quoted(data, name))
    return terms, notes


def _quoted(data: pd.DataFrame, name: str) -> str:
    """A column in a formula, whatever its name; text is a category."""
    quoted = 'Q("' + name.replace("\\", "\\\\").replace('"', '\\"') + '")'
    return quoted if pd.api.types.is_numeric_dtype(data[name]) else f"C({quoted})"


def _fit(data: pd.DataFrame, terms: Sequence[str], kind: str) -> tuple[tuple[Effect, ...] | None, str]:
    """Fixed effects, or None and why there are none."""
    from statsmodels.formula.api import mixedlm  # takes a second to import, and few runs fit a model

    formula = " + ".join([f"log_volume ~ {TIME}", *terms])
    random = f"~{TIME}" if kind == SLOPES else "~1"
    with warnings.catch_warnings(record=True) as told:
        warnings.resetwarnings()
        try:
            fitted = mixedlm(formula, data, groups=data[SUBJECT], re_formula=random).fit(reml=True, method="lbfgs")
            interval, p = fitted.conf_int(), fitted.pvalues
        except (np.linalg.LinAlgError, ValueError) as error:
            return None, f"it cannot be fitted ({error})"
    if not fitted.converged:
        return None, "it does not converge"
    names = list(fitted.fe_params.index)
    errors = fitted.bse_fe
    if not np.isfinite(errors).all() or any("singular" in str(w.message).lower() for w in told):
        return None, "its random effects are too small to be told apart"
    rows = [(n, fitted.fe_params[n], interval.loc[n, 0], interval.loc[n, 1], p[n]) for n in names]
    return tuple(Effect(_plain(n), float(e), float(lo), float(hi), float(q)) for n, e, lo, hi, q in rows), ""


def _plain(term: str) -> str:
    """A term as a person would write it: `years:C(Q("group"))[T.b]` is `years:group[b]`."""
    return term.replace("C(", "").replace('Q("', "").replace('")', "").replace(")[T.", "[").replace("[T.", "[")
