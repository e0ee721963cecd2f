"""Registries: a new loss, fusion rule or engine is a new file, and nothing else is edited."""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from threading import RLock
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Components of one kind by name, found in the modules of one package at first use.

    Parameters
    ----------
    kind
        What the components are, in the singular, for error messages ("fusion rule").
    package
        Dotted name of the package whose modules register themselves.

    Examples
    --------
    >>> rules = Registry("rule", "covoxel.testing")
    >>> @rules.register("first")
    ... def first(labels):
    ...     return labels[0]
    >>> rules["first"]([1, 2])
    1
    """

    def __init__(self, kind: str, package: str) -> None:
        self._kind = kind
        self._package = package
        self._items: dict[str, T] = {}
        self._loaded = False
        self._lock = RLock()

    def register(self, name: str) -> Callable[[T], T]:
        """File the decorated component under `name`; a name taken twice is an error."""

        def file(component: T) -> T:
            if name in self._items:
                raise ValueError(f"{self._kind} {name!r} is registered twice")
            self._items[name] = component
            return component

        return file

    def _load(self) -> None:
        # Re-entrant: a module that is being loaded may look a component up.
        with self._lock:
            if not self._loaded:
                self._loaded = True
                for module in iter_modules(import_module(self._package).__path__):
                    import_module(f"{self._package}.{module.name}")

    def __getitem__(self, name: str) -> T:
        self._load()
        if name not in self._items:
            raise KeyError(f"unknown {self._kind} {name!r}; known: {', '.join(sorted(self._items))}")
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._items))

    def __len__(self) -> int:
        self._load()
        return len(self._items)
