"""Flags: what a reader should know of a case's result before using it."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean
from weakref import WeakKeyDictionary

from covoxel.fusion.facts import CLEAN, facts_from_json
from data_catalog.schema import unsafe_id
from tasks.calibrate import selector_of
from tasks.facts import ResultFacts, read_record
from tasks.register import remarks_of
from tasks.study import Study

FOLDS_FLAG_PERCENT = 0.1
LEAST_DICE = 0.5
"""A predicted Dice below this is flagged."""
LEAST_SHARE = 0.8
"""So is one below this share of the mean Dice of the atlases, each labelled from the others."""
MOST_TIMES = 3.0
"""A volume is flagged that is this many times larger than the largest of the atlases, or smaller than the smallest."""


@dataclass(frozen=True)
class Atlases:
    """What results are held against.

    Parameters
    ----------
    structures
        Values of all structures that at least one atlas has.
    volumes_mm3
        Smallest and largest volume of each structure in the atlases that have it; empty where none is known.
    dice
        Mean Dice of the atlases, each labelled from the others by the rule that is best on them; None where unknown.
    """

    structures: frozenset[int]
    volumes_mm3: Mapping[int, tuple[float, float]]
    dice: float | None


_known: WeakKeyDictionary[Study, tuple[tuple[int, ...], Atlases]] = WeakKeyDictionary()


def flags_of(study: Study, case: str) -> list[str]:
    """Remarks on a case that a reader should know."""
    remarks = list(study.flags.get(case, ()))
    registered, final = study.record("register", case), study.final(case)
    if registered:
        worst = max((item["folded_percent"] or 0.0 for item in registered.facts["transforms"].values()), default=0.0)
        if worst > FOLDS_FLAG_PERCENT:
            remarks.append(f"{worst:.2g} % of voxels fold")
        remarks += remarks_of(registered.facts)
    if not study.is_sound(case) and not unsafe_id(case) and study.layout.segmentation(case).is_file():
        remarks.append("the segmentation in the folder is of an earlier run")
    if final:
        is_atlas = any(atlas.id == case for atlas in study.cohort.atlases)
        remarks += [] if is_atlas else quality_flags(study, final.facts["quality"])
        remarks += volume_flags(study, final.facts["volumes_mm3"], is_atlas=is_atlas)
    return remarks


def quality_flags(study: Study, predicted: float | None) -> list[str]:
    """A remark if the predicted Dice of a result is low."""
    usual = atlases_of(study).dice
    if predicted is None or predicted >= max(LEAST_DICE, LEAST_SHARE * (usual or 0.0)):
        return []
    among = "" if usual is None else f", and {usual:.2f} is usual among the atlases"
    return [f"the result may be wrong: predicted Dice {predicted:.2f}{among}"]


def volume_flags(study: Study, volumes_mm3: Mapping[str, float], *, is_atlas: bool = False) -> list[str]:
    """Remarks on structures that were not found, or whose volume is far from that of all atlases.

    Parameters
    ----------
    study
        Whose atlases a result is held against.
    volumes_mm3
        By value of the structure, as facts have it; mm² of 2-D images.
    is_atlas
        Whether these are the labels that an atlas came with: a structure that they lack is no loss.
    """
    found = {int(label): volume for label, volume in volumes_mm3.items() if volume > 0}
    if not found:
        return ["no structure was found"]
    if is_atlas:
        return []
    known = atlases_of(study)
    remarks = [f"{_name(study, label)} was not found" for label in sorted(known.structures - found.keys())]
    for label in sorted(found.keys() & known.volumes_mm3.keys()):
        least, most = known.volumes_mm3[label]
        end, of = (most, "largest") if found[label] > most else (least, "smallest")
        if found[label] > MOST_TIMES * most or found[label] < least / MOST_TIMES:
            times = f"{found[label] / end:.2g} times the {of} volume of an atlas"
            remarks.append(f"{_name(study, label)} has {times}")
    return remarks


def atlases_of(study: Study) -> Atlases:
    """What the results of a study are held against; found once for as many records as there are."""
    stages = ("check", "fuse", "calibrate")
    count = (len(study.atlases), *(len(study.records.get(stage, {})) for stage in stages))
    known = _known.get(study)
    if known is None or known[0] != count:
        known = count, Atlases(frozenset(_structures(study)), _ranges(study), _usual_dice(study))
        _known[study] = known
    return known[1]


def _structures(study: Study) -> set[int]:
    records = [study.record("check", atlas.id) for atlas in study.atlases]
    return {int(value) for record in records if record for value in record.facts["label_values"]} - {0}


def _ranges(study: Study) -> dict[int, tuple[float, float]]:
    """Volumes of the atlases' own label maps, of this run or of an earlier one."""
    volumes: dict[int, list[float]] = {}
    for atlas in study.atlases:
        kept = study.record("fuse", atlas.id) or read_record(study.manifest, "fuse", atlas.id, ResultFacts)
        for label, volume in kept.facts["volumes_mm3"].items() if kept else ():
            if volume > 0:
                volumes.setdefault(int(label), []).append(volume)
    return {label: (min(each), max(each)) for label, each in volumes.items()}


def _usual_dice(study: Study) -> float | None:
    records = study.records.get("calibrate", {})
    if not records:
        return None
    best = selector_of(study).favourites[0]
    rows = [fact for record in records.values() for fact in facts_from_json(record.facts["facts"])]
    dice = [fact.dice for fact in rows if fact.rule == best and fact.kind == CLEAN]
    return mean(dice) if dice else None


def _name(study: Study, label: int) -> str:
    name = study.cohort.label_names.get(label)
    return f"structure {label} ({name})" if name else f"structure {label}"
