"""The fusion of one case as it was asked for: who votes, which rule is kept and why, and its result."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from covoxel.fusion.atlas_choice import Choice
from covoxel.fusion.candidates import CONSENSUS, CONSENSUS_OF, FusedImage, Restorer, Rules, candidates
from covoxel.fusion.choice import Selected, Selector
from covoxel.fusion.source import Source
from covoxel.spatial import Grid, Image
from tasks.candidates import rules_of, voters
from tasks.evidence import CaseFiles, open_evidence
from tasks.settings import AtlasSettings, FuseSettings

MakeRestorer = Callable[[Source, Grid], Callable[[], Restorer]]
"""Makes what brings a label map to another grid, from the atlases and the grid of the image."""


@dataclass(frozen=True)
class Asked:
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
    """What came of it.

    Parameters
    ----------
    fixed
        The preprocessed image.
    source
        The atlases that voted.
    choice
        Who they are, and why others are not among them.
    rules
        All rules that were tried.
    selected
        The rule that was kept, why, and what Dice is predicted.
    fused
        The result.
    """

    fixed: Image
    source: Source
    choice: Choice
    rules: Rules
    selected: Selected
    fused: FusedImage


@contextmanager
def open_fusion(
    files: CaseFiles, asked: Asked, device: str, scratch: Path, onto: MakeRestorer | None = None
) -> Iterator[Fusion]:
    """Fuse a case; the atlases can be read as long as the context lasts.

    All rules are tried and one is kept. In an image of more than `judge_voxels` voxels they are tried on cells of
    several voxels, as where the selector was learnt, and only the rule that is kept is used on all voxels.
    """
    tried = None
    most = asked.settings.judge_voxels
    if not is_within(files, most):
        with open_evidence(files, device, scratch, most) as (_, everybody):
            tried = _tried(files, everybody, asked, None)
    with open_evidence(files, device, scratch) as (fixed, everybody):
        restorer = None if onto is None else lambda: onto(everybody, fixed.grid)()
        if tried is None:
            tried = _tried(files, everybody, asked, restorer)
            fused = tried.selected.fused
        else:
            pass
        yield fused
