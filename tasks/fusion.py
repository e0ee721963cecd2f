"""The fusion of one case: who votes, which rule is kept and why, and its result on all voxels."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

from covoxel.fusion.atlas_choice import Choice
from covoxel.fusion.candidates import CONSENSUS, CONSENSUS_OF, FusedImage, Restorer, Rules, candidates
from covoxel.fusion.choice import Selected, Selector
from covoxel.fusion.source import Source
from covoxel.io import read_header
from covoxel.spatial import Grid, Image
from tasks.candidates import rules_of, voters
from tasks.evidence import CaseFiles, open_evidence
from tasks.settings import AtlasSettings, FuseSettings

OnTo = Callable[[Source, Grid], Callable[[], Restorer]]
"""Makes what brings a label map to another grid, from the atlases and the grid of the preprocessed image."""


@dataclass(frozen=True)
class Question:
    """How a case is to be fused.

    Parameters
    ----------
    settings
        Fusion rule and its options, or the candidates.
    voting
        How many atlases vote at most, and by what they are chosen.
    learnt
        Raw data parameter of each atlas; empty where none were learnt.
    selector
        What the labelled cases taught about the rules.
    """

    settings: FuseSettings
    voting: AtlasSettings
    learnt: Mapping[str, float]
    selector: Selector


@dataclass(frozen=True, eq=False)
class Fusion:
    """The answer.

    Parameters
    ----------
    fixed
        The preprocessed image.
    source
        The atlases that vote.
    choice
        Their ids, and why others are not among them.
    rules
        Settings by name of rule: of all that were tried, or of those alone that the kept result is made of.
    selected
        The rule that is kept, its result on all voxels, what Dice is predicted of each rule, and why it is kept.
    """

    fixed: Image
    source: Source
    choice: Choice
    rules: Rules
    selected: Selected

    @property
    def fused(self) -> FusedImage:
        """The result that is kept."""
        return self.selected.fused


@contextmanager
def open_fusion(
    files: CaseFiles, question: Question, device: str, scratch: Path, onto: OnTo | None = None
) -> Iterator[Fusion]:
    """Fuse a case; its atlases can be read as long as the context lasts.

    All rules are tried and one is kept. An image of more than `judge_voxels` voxels is judged by the means of cells of
    several voxels, as the labelled cases were from which the selector was learnt; the rule that is kept is then used on
    all voxels, and no other.

    Parameters
    ----------
    files
        What is read.
    question
        How to fuse.
    device
        Where to compute.
    scratch
        Where folders are made, see `open_evidence`.
    onto
        Brings the label map to another grid as well.
    """
    judged = None
    if prod(read_header(files.fixed.path).shape) > question.settings.judge_voxels:
        with open_evidence(files, device, scratch, question.settings.judge_voxels) as (cells, everybody):
            judged = _fused(cells, everybody, files.names, question, None)
    with open_evidence(files, device, scratch) as (fixed, everybody):
        if judged is None:
            yield _fused(fixed, everybody, files.names, question, onto)
        else:
            yield _on_all_voxels(fixed, everybody, files.names, judged, onto)


def _fused(fixed: Image, everybody: Source, names: tuple[str, ...], question: Question, onto: OnTo | None) -> Fusion:
    source, choice = voters(everybody, names, question.voting, question.learnt)
    rules = rules_of(question.settings, question.learnt, choice.kept)
    results = candidates(source, rules, onto=None if onto is None else onto(source, fixed.grid))
    return Fusion(fixed, source, choice, rules, question.selector.select(source, results))


def _on_all_voxels(
    fixed: Image, everybody: Source, names: tuple[str, ...], judged: Fusion, onto: OnTo | None
) -> Fusion:
    source = everybody.of_atlases([names.index(name) for name in judged.choice.kept])
    kept = judged.selected.rule
    rules = {rule: judged.rules[rule] for rule in (CONSENSUS_OF if kept == CONSENSUS else (kept,))}
    results = candidates(source, rules, onto=None if onto is None else onto(source, fixed.grid))
    return Fusion(fixed, source, judged.choice, rules, judged.selected.of(results[kept]))
