"""The report as PDF, by reportlab, with fonts embedded.  The same report gives the same bytes."""

from __future__ import annotations

import io
from typing import Any

from edge.report import sentences
from edge.report.coil_report import CoilReport
from edge.report.drawing import Area, Box, Disc, Drawing, Photo, Shape, Stroke, Text
from edge.report.fonts import SANS, Fonts
from edge.report.sheets import pages_of, with_footer


def pdf_of(report: CoilReport, paper: str = "a4") -> bytes:
    """paper: a4 or letter, landscape.  Raises ReportError where reportlab is not installed."""
    fonts = Fonts()
    from reportlab.pdfgen.canvas import Canvas  # noqa: PLC0415 (of the extra `report`; Fonts has found it)

    pages = pages_of(report, paper, fonts.width)
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=(pages[0].w, pages[0].h), invariant=1, pageCompression=1, initialFontName=SANS)
    canvas.setTitle(f"{sentences.title(report)}, {report.node}")
    canvas.setAuthor(report.node)
    canvas.setSubject(report.id)
    canvas.setCreator("defectd")
    remarks = fonts.remarks()
    for number, page in enumerate(pages, 1):
        _draw(canvas, with_footer(page, number, len(pages), report, remarks, fonts.width), fonts)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def _draw(canvas: Any, page: Drawing, fonts: Fonts) -> None:
    """PDF counts from the lower left corner."""
    for shape in page.shapes:
        _shape(canvas, shape, page.h, fonts)


def _shape(canvas: Any, shape: Shape, h: float, fonts: Fonts) -> None:
    match shape:
        case Box(x, y, w, box_h, fill, stroke, line, radius):
            _paint(canvas, fill, stroke, line)
            flags = {"fill": int(fill is not None), "stroke": int(stroke is not None)}
            if radius:
                canvas.roundRect(x, h - y - box_h, w, box_h, radius, **flags)
            else:
                canvas.rect(x, h - y - box_h, w, box_h, **flags)
        case Stroke(points, color, line, dash):
            _paint(canvas, None, color, line)
            canvas.setLineCap(0 if dash else 1)
            canvas.setLineJoin(1)
            canvas.setDash(*(list(dash),) if dash else ())
            canvas.drawPath(_path(canvas, points, h), stroke=1, fill=0)
            canvas.setDash()
        case Area(points, color):
            _paint(canvas, color, None, 0)
            path = _path(canvas, points, h)
            path.close()
            canvas.drawPath(path, stroke=0, fill=1)
        case Disc(x, y, r, color, line):
            _paint(canvas, None if line else color, color if line else None, line)
            canvas.circle(x, h - y, r, stroke=int(line > 0), fill=int(not line))
        case Text():
            _text(canvas, shape, h, fonts)
        case Photo(x, y, w, box_h, jpeg):
            from reportlab.lib.utils import ImageReader  # noqa: PLC0415 (as above)

            image = ImageReader(io.BytesIO(jpeg))
            canvas.drawImage(image, x, h - y - box_h, w, box_h, preserveAspectRatio=True, anchor="c")


def _text(canvas: Any, text: Text, h: float, fonts: Fonts) -> None:
    if not text.text:
        return
    canvas.setFillColor(_color(text.color))
    x = text.x
    if text.anchor != "start":
        w = fonts.width(text.text, text.size, is_bold=text.is_bold)
        x -= w if text.anchor == "end" else w / 2
    line = canvas.beginText(x, h - text.y)
    for font, part in fonts.runs(text.text, is_bold=text.is_bold):
        line.setFont(font, text.size)
        line.textOut(part)
    canvas.drawText(line)


def _path(canvas: Any, points: tuple[tuple[float, float], ...], h: float) -> Any:
    path = canvas.beginPath()
    path.moveTo(points[0][0], h - points[0][1])
    for x, y in points[1:]:
        path.lineTo(x, h - y)
    return path


def _paint(canvas: Any, fill: str | None, stroke: str | None, line: float) -> None:
    if fill is not None:
        canvas.setFillColor(_color(fill))
    if stroke is not None:
        canvas.setStrokeColor(_color(stroke))
        canvas.setLineWidth(line)


def _color(text: str) -> Any:
    from reportlab.lib.colors import HexColor  # noqa: PLC0415 (as above)

    return HexColor(text)
