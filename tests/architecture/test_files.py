"""Each file is short, says why it exists, and keeps away from what the project forbids."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = ("flows", "tasks", "nets", "data_catalog", "covoxel")
LONGEST = 400

UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "joblib", "marshal"}
FORBIDDEN_NAMES = {
    "print": "log with logging.getLogger(__name__)",
    "get_run_logger": "log with logging.getLogger(__name__): a task must also run outside a flow",
    "filterwarnings": "no warning is silenced for others",
    "simplefilter": "no warning is silenced for others",
    "read_pickle": "nothing from disk is unpickled",
    "to_pickle": "nothing from disk is unpickled",
}


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", python_files(*CODE, "tests", "benchmarks"), ids=name)
def test_a_file_is_short_and_its_first_line_says_why_it_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST
    assert text.startswith('"""'), "the first line is the module's docstring"
    assert len(text.splitlines()[0].strip('" ')) > 10, "one sentence: the reason to exist"


@pytest.mark.parametrize("path", python_files(*CODE), ids=name)
def test_nothing_forbidden_is_used(path: Path) -> None:
    assert list(offences(path.read_text(encoding="utf-8"))) == []


def offences(source: str) -> Iterator[str]:
    """Line and rule of each forbidden name, import or call in `source`."""
    for node in ast.walk(ast.parse(source)):
        rule = _imports(node) or _names(node) or _loads(node)
        if rule:
            yield f"line {getattr(node, 'lineno', 0)}: {rule}"


def _imports(node: ast.AST) -> str | None:
    modules: list[str] = []
    if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        modules = [node.module or ""]
    unpicklers = UNPICKLERS & {module.partition(".")[0] for module in modules}
    return f"nothing from disk is unpickled: {unpicklers}" if unpicklers else None


def _names(node: ast.AST) -> str | None:
    used = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    if isinstance(node, ast.Attribute) and used == "print":
        return None  # a console's own method, such as rich's
    return FORBIDDEN_NAMES.get(used)


def _loads(node: ast.AST) -> str | None:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load"):
        return None
    module = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
    given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
    if module == "torch" and given.get("weights_only") is not True:
        return "torch.load without weights_only=True unpickles"
    if module in ("np", "numpy") and given.get("allow_pickle", False) is not False:
        return "numpy.load with allow_pickle unpickles"
    return None


@pytest.mark.parametrize(
    "source",
    [
        "print('x')",
        "import pickle",
        "from pickle import loads",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
        "warnings.filterwarnings('ignore')",
        "logger = get_run_logger()",
    ],
)
def test_the_guard_sees(source: str) -> None:
    assert list(offences(source))


@pytest.mark.parametrize("source", ["torch.load(path, weights_only=True)", "np.load(path)", "console.print('x')"])
def test_the_guard_allows(source: str) -> None:
    assert not list(offences(source))
