"""The shape of each class, as the page draws it: shape says the class, colour only the severity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from edge.report.drawing import Area, Disc, Shape, Stroke

_Draw = Callable[[str], Iterator[Shape]]
"""Draws a shape of 16 x 16 in a colour."""


def _lines(line: float, *paths: tuple[tuple[float, float], ...]) -> _Draw:
    def draw(color: str) -> Iterator[Shape]:
        for path in paths:
            yield Stroke(path, color, line)

    return draw


def _area(*points: tuple[float, float]) -> _Draw:
    def draw(color: str) -> Iterator[Shape]:
        yield Area(points, color)

    return draw


def _discs(*discs: tuple[float, float, float], line: float = 0.0) -> _Draw:
    def draw(color: str) -> Iterator[Shape]:
        for x, y, r in discs:
            yield Disc(x, y, r, color, line)

    return draw


_KNOWN: Final[dict[str, _Draw]] = {
    "crazing": _lines(
        2, ((2, 5), (14, 5)), ((2, 11), (14, 11)), ((5.5, 1.5), (5.5, 14.5)), ((10.5, 1.5), (10.5, 14.5))
    ),
    "inclusion": _discs((8, 8, 6)),
    "patches": _area((2, 2), (14, 2), (14, 14), (2, 14)),
    "pitted_surface": _discs((4, 4, 2.4), (12, 4.5, 2.4), (8, 9, 2.4), (4, 13, 2), (12.4, 12.6, 2.4)),
    "rolled-in_scale": _area((8, 1.5), (15, 14), (1, 14)),
    "scratches": _lines(2.6, ((3, 14), (9, 2)), ((8, 14), (13, 4))),
}
_FURTHER: Final[tuple[_Draw, ...]] = (
    _area((8, 1), (15, 8), (8, 15), (1, 8)),
    _lines(3, ((8, 2), (8, 14)), ((2, 8), (14, 8))),
    _discs((8, 8, 5.5), line=2.4),
    _area((1, 3), (15, 3), (8, 15)),
    _lines(2.8, ((3, 3), (13, 13)), ((13, 3), (3, 13))),
    _lines(2.4, ((3, 3), (13, 3), (13, 13), (3, 13), (3, 3))),
    _lines(2.6, ((1, 8), (4.5, 3.5), (8, 8), (11.5, 12.5), (15, 8))),
    _lines(2.4, ((2, 3), (14, 3)), ((2, 8), (14, 8)), ((2, 13), (14, 13))),
    _area((2, 14), (2, 2), (14, 14)),
)
_ANOMALY: Final = _lines(2.2, ((8, 1.5), (14, 5), (14, 11), (8, 14.5), (2, 11), (2, 5), (8, 1.5)))


def class_shape(name: str, x: float, y: float, r: float, color: str, others: tuple[str, ...] = ()) -> Iterator[Shape]:
    """The shape of a class around x, y.  r: half its height.  others: the classes of the coil, to tell them apart."""
    scale = r / 8
    for shape in _drawer(name, others)(color):
        match shape:
            case Stroke(points, _, line):
                yield Stroke(tuple((x + (a - 8) * scale, y + (b - 8) * scale) for a, b in points), color, line * scale)
            case Area(points):
                yield Area(tuple((x + (a - 8) * scale, y + (b - 8) * scale) for a, b in points), color)
            case Disc(a, b, radius, _, line):
                yield Disc(x + (a - 8) * scale, y + (b - 8) * scale, radius * scale, color, line * scale)
            case _:
                pass


def _drawer(name: str, others: tuple[str, ...]) -> _Draw:
    if name in _KNOWN:
        return _KNOWN[name]
    if name in ("", "anomaly"):
        return _ANOMALY
    unknown = sorted({*others, name} - _KNOWN.keys())
    return _FURTHER[unknown.index(name) % len(_FURTHER)]
