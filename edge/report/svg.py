"""A drawing as SVG, to be put into an HTML page."""

from __future__ import annotations

from base64 import b64encode
from html import escape

from edge.report.drawing import Area, Box, Disc, Drawing, Photo, Shape, Stroke, Text


def svg_of(drawing: Drawing, title: str) -> str:
    """title: for those who do not see it."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(drawing.w)} {_n(drawing.h)}" role="img">'
    return "".join((head, f"<title>{escape(title)}</title>", *map(_element, drawing.shapes), "</svg>"))


def _element(shape: Shape) -> str:
    match shape:
        case Box(x, y, w, h, fill, stroke, line, radius):
            rounded = f' rx="{_n(radius)}"' if radius else ""
            edge = f' stroke="{stroke}" stroke-width="{_n(line)}"' if stroke else ""
            place = f'x="{_n(x)}" y="{_n(y)}" width="{_n(w)}" height="{_n(h)}"'
            return f'<rect {place} fill="{fill or "none"}"{edge}{rounded}/>'
        case Stroke(points, color, line, dash):
            dashes = f' stroke-dasharray="{_n(dash[0])} {_n(dash[1])}"' if dash else ""
            joined = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
            ends = 'stroke-linecap="round" stroke-linejoin="round"'
            return (
                f'<polyline points="{joined}" fill="none" stroke="{color}" stroke-width="{_n(line)}" {ends}{dashes}/>'
            )
        case Area(points, color):
            joined = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
            return f'<polygon points="{joined}" fill="{color}"/>'
        case Disc(x, y, r, color, line):
            paint = f'fill="none" stroke="{color}" stroke-width="{_n(line)}"' if line else f'fill="{color}"'
            return f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(r)}" {paint}/>'
        case Text(x, y, text, size, color, anchor, is_bold):
            bold = ' font-weight="650"' if is_bold else ""
            at = f'x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" fill="{color}" text-anchor="{anchor}"'
            return f"<text {at}{bold}>{escape(text)}</text>"
        case Photo(x, y, w, h, jpeg):
            at = f'x="{_n(x)}" y="{_n(y)}" width="{_n(w)}" height="{_n(h)}"'
            return f'<image {at} href="data:image/jpeg;base64,{b64encode(jpeg).decode()}"/>'


def _n(value: float) -> str:
    text = f"{value:.1f}"
    return text.removesuffix(".0")
