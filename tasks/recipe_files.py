"""Where recipes lie, and how one is found by its name; light, so that the command line can list them."""

from difflib import get_close_matches
from pathlib import Path

from tasks.call import CallError

FOLDER = Path(__file__).resolve().parents[1] / "nets" / "recipes"
JOINT_FOLDER = FOLDER / "joint"


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes for registration networks that come with covoxel, sorted."""
    return _names(FOLDER)


def joint_recipe_names() -> tuple[str, ...]:
    """Names of the recipes of joint training that come with covoxel, sorted."""
    return _names(JOINT_FOLDER)


def find_recipe(name_or_path: str) -> Path:
    """File of a recipe: one of `recipe_names`, or a YAML file of the user's.

    Raises
    ------
    CallError
        If there is none of that name (the nearest known one is named) or no such file.
    """
    return _find(FOLDER, name_or_path, "recipe", JOINT_FOLDER, "train-joint")


def find_joint_recipe(name_or_path: str) -> Path:
    """File of a joint recipe: one of `joint_recipe_names`, or a YAML file of the user's.

    Raises
    ------
    CallError
        As for `find_recipe`.
    """
    return _find(JOINT_FOLDER, name_or_path, "joint recipe", FOLDER, "train-registration")


def _names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def _find(folder: Path, name_or_path: str, kind: str, others: Path, verb: str) -> Path:
    """File of a recipe in `folder`; `others` lie where the recipes of another verb are."""
    names = _names(folder)
    known = ", ".join(names)
    if name_or_path in names:
        return folder / f"{name_or_path}.yaml"
    path = Path(name_or_path).expanduser()
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        if path.is_file():
            return path.absolute()
        raise CallError(f"{kind} {name_or_path}: there is no such file; name a YAML file, or one of {known}")
    if name_or_path in _names(others):
        raise CallError(f"unknown {kind} {name_or_path!r}; it is one of {verb}; known: {known}, or a file NAME.yaml")
    nearest = get_close_matches(name_or_path, names, n=1, cutoff=0.0)
    hint = f"the nearest known one is {nearest[0]}; " if nearest else ""
    raise CallError(f"unknown {kind} {name_or_path!r}; {hint}known: {known}, or a file NAME.yaml")
