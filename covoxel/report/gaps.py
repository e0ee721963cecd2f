"""Gaps: a part of a page, or a picture, that cannot be drawn leaves a sentence in its place, and the rest goes on."""

import io
import textwrap
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image, ImageDraw, ImageFont

from covoxel.memory_errors import is_out_of_memory, memory_sentence
from covoxel.report.text import short_paths

T = TypeVar("T")

_MOST_LETTERS = 300
_PICTURE = (640, 340)


@dataclass(frozen=True)
class Gap:
    """What stands in the place of something that could not be drawn: a sentence with the reason."""

    sentence: str


class Guard:
    """Draws parts one by one, and keeps the tracebacks of those that fail."""

    def __init__(self) -> None:
        self.gaps: list[Gap] = []
        self._tracebacks: list[str] = []

    @property
    def tracebacks(self) -> str:
        """Tracebacks of all that failed, empty where nothing did."""
        return "\n".join(self._tracebacks)

    def one(self, what: str, draw: Callable[[], T]) -> T | Gap:
        """What `draw` gives; if it fails, a gap that names `what`."""
        try:
            return draw()
        except Exception as error:  # whatever fails here must cost no more than its place
            return self._gap(what, error)

    def many(self, what: str, draw: Callable[[], Iterable[T]]) -> tuple[T | Gap, ...]:
        """All that `draw` gives, in their order; if it fails, those before and a gap."""
        drawn: list[T | Gap] = []
        try:
            drawn.extend(draw())
        except Exception as error:
            drawn.append(self._gap(what, error))
        return tuple(drawn)

    def picture(self, what: str, draw: Callable[[], bytes], form: str) -> bytes:
        """The picture that `draw` gives; if it fails, one of the sentence. `form` is "PNG" or "WEBP"."""
        drawn = self.one(what, draw)
        return picture_of(drawn.sentence, form) if isinstance(drawn, Gap) else drawn

    def _gap(self, what: str, error: Exception) -> Gap:
        gap = Gap(f"{what} could not be drawn: {_reason(error)}.")
        self.gaps.append(gap)
        self._tracebacks.append(f"{gap.sentence}\n{''.join(traceback.format_exception(error))}")
        return gap


def picture_of(sentence: str, form: str) -> bytes:
    """A dark picture with a sentence on it."""
    sheet = Image.new("RGB", _PICTURE, (0, 0, 0))
    lines = "\n".join(textwrap.wrap(sentence, 62))
    ImageDraw.Draw(sheet).multiline_text((20, 20), lines, fill=(226, 229, 233), font=ImageFont.load_default(18))
    stream = io.BytesIO()
    sheet.save(stream, form)
    return stream.getvalue()


def _reason(error: Exception) -> str:
    words = memory_sentence(error) if is_out_of_memory(error) else f"{type(error).__name__}: {error}"
    words = short_paths(" ".join(words.split()).rstrip(".: "))
    return words if len(words) <= _MOST_LETTERS else f"{words[:_MOST_LETTERS]}…"
