"""What a test reads of a page: its tags, its words, and whether every tag is closed in order."""

from collections.abc import Callable
from html.parser import HTMLParser

import pytest

VOID = {"meta", "img", "br", "link", "input", "hr", "line", "circle", "path"}


class Reader(HTMLParser):
    """Tags, texts and identifiers of a page; fails on a tag closed out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    def count(self, tag: str, kind: str | None = None) -> int:
        """How many tags there are, of a class if one is named."""
        return sum(name == tag and (kind is None or kind == a.get("class")) for name, a in self.tags)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def read() -> Callable[[str], Reader]:
    """Reads a page and sees that it is whole."""

    def whole(page: str) -> Reader:
        reader = Reader()
        reader.feed(page)
        assert reader.open == []
        return reader

    return whole
