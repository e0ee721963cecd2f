"""A case as the page lays it out: its score, its place in the order, its facts, its pictures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from covoxel.metrics.summary import summarise
from covoxel.report import text
from covoxel.report.fusion_model import AtlasRow
from covoxel.report.gaps import Gap, Guard
from covoxel.report.model import DONE, CaseReport
from covoxel.report.pictures import Picture, pictures_of
from covoxel.report.plots import Point

_NETWORKS = {"joint": "joint network", "nnunet": "nnU-Net", "cohort": "other cases"}
ATLAS_COLUMNS = (("agreement", "Agreement"), ("likeness", "Likeness"), ("trust", "Trust"))


def candidate_words(name: str) -> str:
    """A candidate for a case's label map in words: "fusion + joint network" is the mean of both."""
    return " + ".join(_NETWORKS.get(member, member) for member in name.split("+"))


@dataclass(frozen=True)
class CaseView:
    """A case as it is laid out."""

    case: CaseReport
    anchor: str
    dice: float | None
    confidence: float | None
    score: float | None
    score_name: str
    facts: tuple[tuple[str, str], ...]
    pictures: tuple[Picture | Gap, ...]
    left_out: bool

    @property
    def problem(self) -> bool:
        """Whether the case has no result."""
        return self.case.status != DONE

    @property
    def point(self) -> Point:
        """Its score, for the plots."""
        return Point(self.score or 0.0, self.case.id, self.anchor)

    @property
    def candidates(self) -> tuple[tuple[str, str, bool], ...]:
        """Name and predicted Dice of each candidate rule, the best first, and whether it made the result."""
        known = [(rule, value) for rule, value in self.case.predicted_by_rule.items() if text.known(value)]
        known.sort(key=lambda item: (-item[1], item[0]))
        return tuple((text.words(rule), text.number(value), rule == self.case.rule) for rule, value in known)

    @property
    def rivals(self) -> tuple[tuple[str, str, bool], ...]:
        """Name and predicted Dice of fusion, networks and their means, the best first, and whether it was kept."""
        known = [(name, value) for name, value in self.case.predicted_by_candidate.items() if text.known(value)]
        known.sort(key=lambda item: (-item[1], item[0]))
        return tuple((candidate_words(n), text.number(value), n == self.case.candidate) for n, value in known)

    @property
    def atlas_columns(self) -> tuple[tuple[str, str], ...]:
        """Field and heading of what is known of the case's atlases."""
        return tuple(
            column for column in ATLAS_COLUMNS if any(text.known(getattr(a, column[0])) for a in self.case.atlases)
        )

    @property
    def left_out_atlases(self) -> tuple[AtlasRow, ...]:
        """Atlases that took no part in the fusion."""
        return tuple(atlas for atlas in self.case.atlases if atlas.rejected)


def views_of(cases: Sequence[CaseReport], budget: int, guard: Guard) -> tuple[CaseView, ...]:
    """Cases as they are laid out: those without a result first, then the worst first; figures within the budget."""
    scored = [(case, *_score(case)) for case in cases]
    scored.sort(key=lambda item: (item[0].status == DONE, item[1] is None, item[1] or 0.0, item[0].id))
    views = []
    for i, (case, score, score_name) in enumerate(scored):
        pictures = pictures_of(case.figures, case.id, guard)
        cost = sum(len(picture.source) for picture in pictures if isinstance(picture, Picture))
        left_out = cost > budget
        budget = budget if left_out else budget - cost
        views.append(
            CaseView(
                case=case,
                anchor=f"case-{i + 1}",
                dice=_dice_of(case),
                confidence=_confidence_of(case),
                score=score,
                score_name=score_name,
                facts=tuple(_facts(case)),
                pictures=(*(() if left_out else pictures), *map(Gap, case.gaps)),
                left_out=left_out,
            )
        )
    return tuple(views)


def _score(case: CaseReport) -> tuple[float | None, str]:
    """The number cases are ordered by: measured Dice, else predicted, else confidence."""
    for value, name in (
        (_dice_of(case), "Dice"),
        (case.predicted_dice, "predicted Dice"),
        (_confidence_of(case), "confidence"),
    ):
        if text.known(value):
            return value, name
    return None, ""


def _mean(values: Iterable[float | None]) -> float | None:
    summary = summarise(value for value in values if value is not None)
    return summary.mean if summary.n else None


def _dice_of(case: CaseReport) -> float | None:
    return _mean(row.dice for row in case.rows)


def _confidence_of(case: CaseReport) -> float | None:
    return case.confidence if text.known(case.confidence) else _mean(row.confidence for row in case.rows)


def _facts(case: CaseReport) -> Iterable[tuple[str, str]]:
    if case.candidate and case.status == DONE:
        yield "Label map of", candidate_words(case.candidate)
    if case.rule and case.status == DONE:
        yield "Fused by", text.words(case.rule)
    if text.known(case.predicted_dice):
        yield "Predicted Dice", text.number(case.predicted_dice)
    if text.known(case.agreement):
        yield "Networks agree with fusion", text.number(case.agreement)
    if text.known(case.folded_percent):
        yield "Folded voxels", text.percent(case.folded_percent)
    if text.known(case.sd_log_jacobian):
        yield "SD of log Jacobian", text.number(case.sd_log_jacobian)
    if text.known(case.seconds):
        yield "Time", text.duration(case.seconds)
