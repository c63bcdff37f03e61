"""A drawing as values: simple shapes in points from the upper left corner.  SVG, PDF and PNG are made of it alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

Anchor = Literal["start", "middle", "end"]


class Measure(Protocol):
    """Width of a text in points."""

    def __call__(self, text: str, size: float, *, is_bold: bool = False) -> float: ...


def roughly(text: str, size: float, *, is_bold: bool = False) -> float:
    """The width of a text where its font is that of the reader's machine."""
    return len(text) * size * (0.6 if is_bold else 0.55)


INK: Final = "#12171c"
SOFT: Final = "#505b66"
LINE: Final = "#d3d9df"
LINE_SOFT: Final = "#e3e7eb"
SUNK: Final = "#f3f5f7"
PAPER: Final = "#ffffff"
ACCENT: Final = "#00619a"
GOOD: Final = "#00745a"
WARN: Final = "#a86100"
WARN_SOFT: Final = "#fff1d6"
BAD: Final = "#bf3f00"
INSPECTED: Final = "#9fb3c4"
SEVERITY: Final = {"minor": "#5a7186", "major": "#c07400", "critical": "#c43d08"}
"""The colours of the page's light theme: colour says the severity, shape the class."""


@dataclass(frozen=True, slots=True)
class Box:
    x: float
    y: float
    w: float
    h: float
    fill: str | None = None
    stroke: str | None = None
    line: float = 1.0
    radius: float = 0.0


@dataclass(frozen=True, slots=True)
class Stroke:
    """A line through these points.  dash: lengths of dash and gap; None: unbroken."""

    points: tuple[tuple[float, float], ...]
    color: str
    line: float = 1.0
    dash: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Area:
    points: tuple[tuple[float, float], ...]
    color: str


@dataclass(frozen=True, slots=True)
class Disc:
    """Filled; with a line, a ring."""

    x: float
    y: float
    r: float
    color: str
    line: float = 0.0


@dataclass(frozen=True, slots=True)
class Text:
    """y: of the base line."""

    x: float
    y: float
    text: str
    size: float
    color: str = INK
    anchor: Anchor = "start"
    is_bold: bool = False


@dataclass(frozen=True, slots=True)
class Photo:
    """A JPEG, fitted into a box."""

    x: float
    y: float
    w: float
    h: float
    jpeg: bytes


Shape = Box | Stroke | Area | Disc | Text | Photo


@dataclass(frozen=True, slots=True)
class Drawing:
    w: float
    h: float
    shapes: tuple[Shape, ...]


def moved(shapes: Iterable[Shape], dx: float, dy: float) -> Iterator[Shape]:
    for shape in shapes:
        match shape:
            case Stroke() | Area():
                yield replace(shape, points=tuple((x + dx, y + dy) for x, y in shape.points))
            case _:
                yield replace(shape, x=shape.x + dx, y=shape.y + dy)
