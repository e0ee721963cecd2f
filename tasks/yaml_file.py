"""The one way in which YAML files of users are read: small, flat, without aliases, so that none can take a run down."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from tasks.settings import SettingsError

MAX_FILE_BYTES = 1_000_000
MAX_NODES = 20_000
MAX_DEPTH = 20


def read_yaml(path: Path, name: str) -> Any:
    """Plain data of a YAML file; `name` is what errors call it.

    Aliases, anchors and merge keys (`*x`, `&x`, `<<`) are refused: ten lines of them can mean a billion values.

    Raises
    ------
    SettingsError
        If the file cannot be read, has more than 1 MB, 20 000 values or 20 levels, has an alias, an anchor, a merge key
        or the same key twice, or is no YAML.
    """
    try:
        return yaml.load(_text(path, name), _Loader)  # noqa: S506 (it is a SafeLoader)
    except SettingsError:
        raise
    except OSError as error:
        raise SettingsError(f"{name}: the file cannot be read: {error.strerror}") from None
    except _RefusedError as error:
        raise SettingsError(f"{name}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where is not None else ""
        raise SettingsError(f"{name}: the file is not valid YAML{line}") from None


def _text(path: Path, name: str) -> str:
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        size = path.stat().st_size or f"more than {MAX_FILE_BYTES}"
        raise SettingsError(f"{name}: the file has {size} bytes, at most {MAX_FILE_BYTES} are read")
    return content.decode("utf-8")


class _RefusedError(Exception):
    """What is YAML and is not read."""

    def __init__(self, mark: Any, what: str) -> None:
        super().__init__(f"line {mark.line + 1} {what}")


class _Loader(yaml.SafeLoader):
    """A safe loader that reads values as they stand."""

    depth = nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        self.depth += 1
        self.nodes += 1
        for is_wrong, what in (
            (isinstance(event, yaml.AliasEvent), f"has the alias *{event.anchor}; write its value out"),
            (event.anchor is not None, f"has the anchor &{event.anchor}; leave it out"),
            (self.depth > MAX_DEPTH, f"is nested more than {MAX_DEPTH} levels deep"),
            (self.nodes > MAX_NODES, f"has value {MAX_NODES + 1} of the file; {MAX_NODES} are read"),
        ):
            if is_wrong:
                raise _RefusedError(event.start_mark, what)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise _RefusedError(key.start_mark, "has the merge key <<; write its keys out")
            name = str(key.value)
            if name in seen:
                raise _RefusedError(key.start_mark, f"has the key {name[:100]} a second time")
            seen.add(name)
        return super().construct_mapping(node, deep)
