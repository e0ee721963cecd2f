"""Where recipes lie, and how one is found by its name; light, so that the command line can list them."""

from difflib import get_close_matches
from pathlib import Path

from tasks.call import CallError

FOLDER = Path(__file__).resolve().parents[1] / "nets" / "recipes"


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that come with covoxel, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def find_recipe(name_or_path: str) -> Path:
    """File of a recipe: one of `recipe_names`, or a YAML file of the user's.

    Raises
    ------
    CallError
        If there is none of that name (the nearest known one is named) or no such file.
    """
    if name_or_path in recipe_names():
        return FOLDER / f"{name_or_path}.yaml"
    path = Path(name_or_path).expanduser()
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        if path.is_file():
            return path.absolute()
        raise CallError(f"recipe {name_or_path}: there is no such file; name a YAML file, or one of {_known()}")
    nearest = get_close_matches(name_or_path, recipe_names(), n=1, cutoff=0.0)
    hint = f"the nearest known one is {nearest[0]}; " if nearest else ""
    raise CallError(f"unknown recipe {name_or_path!r}; {hint}known: {_known()}, or a file NAME.yaml")


def _known() -> str:
    return ", ".join(recipe_names())
