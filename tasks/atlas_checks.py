"""Checks of a template before anything starts: enough cases, one contrast by their names, settings that exist."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from covoxel.losses.base import SIMILARITIES
from tasks.call import CallError
from tasks.conditional_covariates import check_conditional
from tasks.engine import check_engine
from tasks.settings import FewShotSettings, SettingsError, require

if TYPE_CHECKING:
    from tasks.study import Study

SUFFIXES = ("T1w", "T2w", "FLAIR", "PDw", "T2starw", "T1rho", "inplaneT1", "inplaneT2", "angio", "bold", "dwi")
"""Ends of file names by which BIDS tells contrasts apart."""


def check_templates(study: "Study") -> None:
    """Refuse a run that builds a template, for itself or as a route, which cannot be built.

    Raises
    ------
    CallError, SettingsError
        As for `check_atlas_cases`, `check_conditional`, `check_route` and `check_template`.
    """
    if study.call.builds_atlas:
        check_atlas_cases(study)
        check_conditional(study)
    if study.through_template:
        check_route(study)
    if study.call.builds_atlas or study.through_template:
        check_template(study.call.settings, study.call.output)


def check_template(settings: FewShotSettings, output: Path) -> None:
    """Refuse settings by which no template can be built.

    Raises
    ------
    SettingsError
        If the similarity is unknown, or an engine with a network has none or one that cannot be loaded.
    """
    template, register = settings.template, settings.register_
    try:
        SIMILARITIES[template.similarity]
    except KeyError as error:
        raise SettingsError(f"settings: template.similarity is wrong: {error.args[0]}") from None
    if template.engine != "svf":
        require(
            register.engine == template.engine,
            f"template.engine = {template.engine!r} needs register.engine = {template.engine!r} and its network "
            f"(register.model), got {register.engine!r}",
        )
        check_engine(register, output)


def check_atlas_cases(study: "Study") -> None:
    """Refuse cases that cannot become a template, as far as names tell.

    Raises
    ------
    CallError
        If there are fewer than two, or their files are of different contrasts.
    """
    chosen = study.selected
    if len(chosen) < 2:
        named = ", ".join(case.id for case in chosen)
        raise CallError(f"a template needs two cases or more, got {len(chosen)} ({named})")
    if study.call.settings.template.contrast == "many":
        return
    kinds = {case.id: kind for case in chosen if (kind := _suffix(case.image))}
    counts = Counter(kinds.values())
    if len(counts) > 1:
        rare = min(sorted(counts), key=lambda kind: counts[kind])
        named = next(case for case, kind in kinds.items() if kind == rare)
        raise CallError(
            f"the images are of different contrast by their names ({', '.join(sorted(counts))}; {named} is {rare}); "
            "name those of one with --cases, or set template.contrast = 'many' in the settings"
        )


def check_route(study: "Study") -> None:
    """Refuse the route through a template where there can be none, or label maps are to drive the registrations.

    Raises
    ------
    CallError
        If fewer than two atlases are named.
    SettingsError
        If label maps are named, or several templates are asked for that are affine means.
    """
    atlases = study.call.atlases
    if len(atlases) < 2:
        raise CallError(f"the route template needs two atlases or more, got {len(atlases)}; take the route direct")
    template = study.call.settings.template
    require(
        template.count == 1 or template.iterations > 0,
        f"template.count = {template.count} needs template.iterations of 1 or more, got 0: atlases are grouped by how "
        "they are bent",
    )
    labels = study.call.settings.register_.labels
    require(labels is None, f"register.labels = {str(labels)!r} is wrong: no labels drive the route template")


def _suffix(image: Path) -> str | None:
    stem = image.name.removesuffix(".gz").removesuffix(".nii")
    return next((suffix for suffix in SUFFIXES if stem.endswith(f"_{suffix}")), None)
