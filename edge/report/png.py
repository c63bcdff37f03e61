"""The map of a report as PNG, by Pillow.  The same report gives the same bytes."""

from __future__ import annotations

import io
from typing import Any, Final

from edge.errors import ReportError
from edge.report import sentences, words
from edge.report.coil_report import CoilReport
from edge.report.drawing import INK, PAPER, SOFT, Area, Box, Disc, Drawing, Photo, Shape, Stroke, Text, moved
from edge.report.fonts import FILES, FOLDER, REMEDY, Fonts
from edge.report.map_drawing import legend, map_drawing

W: Final = 1000.0
PAD: Final = 14.0
SCALE: Final = 2
"""Pixels for each point."""
OVER: Final = 2
"""Drawn larger by this, then reduced: smooth edges."""


def png_of(report: CoilReport) -> bytes:
    """The map under a line of text.  Raises ReportError where Pillow or reportlab is not installed."""
    fonts = Fonts()
    try:
        from PIL import Image  # noqa: PLC0415 (of the extra `report`)
    except ImportError as error:
        raise ReportError(f"a PNG needs Pillow, which is not here ({error}). {REMEDY}") from None
    drawing = _sheet(report, fonts)
    size = round(drawing.w * SCALE * OVER), round(drawing.h * SCALE * OVER)
    image = Image.new("RGB", size, PAPER)
    painter = _Painter(image, fonts)
    for shape in drawing.shapes:
        painter.draw(shape)
    small = image.resize((round(drawing.w * SCALE), round(drawing.h * SCALE)), Image.Resampling.BOX)
    out = io.BytesIO()
    small.save(out, "PNG", optimize=False, compress_level=9)
    return out.getvalue()


def _sheet(report: CoilReport, fonts: Fonts) -> Drawing:
    chart = map_drawing(report, W - 2 * PAD)
    grade, _ = sentences.grade_word(report)
    head = f"{words.shortened(sentences.title(report), 60)}: {grade}"
    shapes: list[Shape] = [
        Text(PAD, PAD + 12, head, 14, INK, is_bold=True),
        Text(PAD, PAD + 27, f"{sentences.size(report)}, {report.node}", 9.5, SOFT),
        *legend(report, W - PAD - 9, PAD + 27, measure=fonts.width),
        *moved(chart.shapes, PAD, PAD + 38),
    ]
    y = PAD + 38 + chart.h
    for line in sentences.map_notes(report):
        y += 12
        shapes.append(Text(PAD, y, line, 8.5, SOFT))
    for shape in shapes:  # now, so that the sheet can say which characters it lacks
        if isinstance(shape, Text):
            fonts.width(shape.text, shape.size, is_bold=shape.is_bold)
    for line in fonts.remarks():
        y += 12
        shapes.append(Text(PAD, y, line, 8.5, SOFT))
    return Drawing(W, y + PAD, tuple(shapes))


class _Painter:
    def __init__(self, image: Any, fonts: Fonts) -> None:
        from PIL import ImageDraw  # noqa: PLC0415 (as above)

        self._draw = ImageDraw.Draw(image)
        self._fonts = fonts
        self._faces: dict[tuple[str, int], Any] = {}
        self._k = SCALE * OVER

    def draw(self, shape: Shape) -> None:
        k, draw = self._k, self._draw
        match shape:
            case Box(x, y, w, h, fill, stroke, line, _):
                area = (x * k, y * k, max(x, x + w) * k - 1, max(y, y + h) * k - 1)
                if area[2] >= area[0] and area[3] >= area[1]:
                    draw.rectangle(area, fill, stroke, max(1, round(line * k)) if stroke else 1)
            case Stroke(points, color, line, dash):
                points_of = _dashed(points, dash) if dash else [points]
                for part in points_of:
                    draw.line([(x * k, y * k) for x, y in part], color, max(1, round(line * k)), joint="curve")
            case Area(points, color):
                draw.polygon([(x * k, y * k) for x, y in points], color)
            case Disc(x, y, r, color, line):
                area = ((x - r) * k, (y - r) * k, (x + r) * k, (y + r) * k)
                draw.ellipse(area, None if line else color, color if line else None, max(1, round(line * k)))
            case Text():
                self._text(shape)
            case Photo():
                pass  # the map has none

    def _text(self, text: Text) -> None:
        runs = list(self._fonts.runs(text.text, is_bold=text.is_bold))
        parts = [(self._face(font, round(text.size * self._k)), part) for font, part in runs]
        w = sum(face.getlength(part) for face, part in parts)
        x = text.x * self._k - {"start": 0.0, "middle": w / 2, "end": w}[text.anchor]
        for face, part in parts:
            self._draw.text((x, text.y * self._k), part, text.color, face, "ls")
            x += face.getlength(part)

    def _face(self, font: str, size: int) -> Any:
        from PIL import ImageFont  # noqa: PLC0415 (as above)

        if (font, size) not in self._faces:
            engine = ImageFont.Layout.BASIC
            self._faces[font, size] = ImageFont.truetype(str(FOLDER / FILES[font]), size, layout_engine=engine)
        return self._faces[font, size]


def _dashed(
    points: tuple[tuple[float, float], ...], dash: tuple[float, float]
) -> list[tuple[tuple[float, float], ...]]:
    """A level line in dashes."""
    (x, y), (end, _) = points[0], points[-1]
    parts: list[tuple[tuple[float, float], ...]] = []
    while x < end:
        parts.append(((x, y), (min(end, x + dash[0]), y)))
        x += sum(dash)
    return parts
