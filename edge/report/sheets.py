"""Lays the report out on pages: a list of drawings, each a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from edge.report import sentences, words
from edge.report.class_shapes import class_shape
from edge.report.coil_report import CoilReport, WorstDefect
from edge.report.drawing import (
    BAD,
    GOOD,
    INK,
    LINE,
    LINE_SOFT,
    PAPER,
    SEVERITY,
    SOFT,
    SUNK,
    Anchor,
    Box,
    Drawing,
    Measure,
    Photo,
    Shape,
    Stroke,
    Text,
    moved,
)
from edge.report.map_drawing import legend, map_drawing, width_drawing

SIZES: Final = {"a4": (841.89, 595.28), "letter": (792.0, 612.0)}
"""Landscape, in points."""
MARGIN: Final = 26.0
GAP: Final = 8.0
PAD: Final = 9.0
FOOT: Final = 26.0
FIRST_COLUMN: Final = 60.0
"""What the first column of a table has at least."""
ROW: Final = 12.0
BODY: Final = 8.0
SMALL: Final = 7.5
LANES: Final = (44.0, 92.0)
"""Least and most height of a lane on the map."""
SHARES: Final = (1.1, 0.97, 0.93)
"""Of the three columns."""
MAX_RULES: Final = 20
MAX_GAPS: Final = 12
MAX_CLASSES: Final = 9
MAX_MARKS: Final = 4
MAX_NOTES: Final = 14
FIGURES: Final = 5
"""Pictures in a row."""
_GRADE_COLOR: Final = {"good": GOOD, "fair": SEVERITY["major"], "bad": SEVERITY["critical"], "none": SOFT}


@dataclass(frozen=True, slots=True)
class _Block:
    """Something of a known height, drawn from its upper left corner."""

    h: float
    shapes: tuple[Shape, ...]


def pages_of(report: CoilReport, paper: str, measure: Measure) -> list[Drawing]:
    """The pages without their footers."""
    return _Layout(report, paper, measure).pages()


def with_footer(
    page: Drawing, number: int, count: int, report: CoilReport, remarks: Sequence[str], measure: Measure
) -> Drawing:
    """The page with what the report was made of, and its number.  remarks: about the file itself."""
    text = " ".join((sentences.origin(report), *remarks))
    lines = wrapped(text, page.w - 2 * MARGIN - 70, 6.5, measure)[:3]
    y = page.h - MARGIN - FOOT + 10
    shapes = [Text(MARGIN, y + 8 * k, line, 6.5, SOFT) for k, line in enumerate(lines)]
    name = words.shortened(sentences.title(report), 30)
    shapes.append(Text(page.w - MARGIN, y, f"{number} of {count}", SMALL, SOFT, "end"))
    if number > 1:
        shapes.append(Text(page.w - MARGIN, y + 9, name, 6.5, SOFT, "end"))
    return Drawing(page.w, page.h, (*page.shapes, *shapes))


def wrapped(text: str, w: float, size: float, measure: Measure, *, is_bold: bool = False) -> list[str]:
    """The text in lines of this width; a word that is too long is broken."""
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if measure(longer, size, is_bold=is_bold) <= w:
            line = longer
            continue
        if line:
            lines.append(line)
        line = word
        while measure(line, size, is_bold=is_bold) > w and len(line) > 1:
            fits = next(
                n for n in range(len(line) - 1, 0, -1) if n == 1 or measure(line[:n], size, is_bold=is_bold) <= w
            )
            lines.append(line[:fits])
            line = line[fits:]
    return [*lines, line] if line else lines


class _Layout:
    def __init__(self, report: CoilReport, paper: str, measure: Measure) -> None:
        self.report = report
        self.w, self.h = SIZES[paper]
        self.inner_w = self.w - 2 * MARGIN
        self.measure = measure
        self.names = tuple(row.class_name for row in report.classes)

    def pages(self) -> list[Drawing]:
        """Blocks from top to bottom; one that does not fit starts a page."""
        bottom = self.h - MARGIN - FOOT
        pages: list[list[Shape]] = [[]]
        y = MARGIN
        for block in self._blocks():
            if y + block.h > bottom and pages[-1]:
                pages.append([])
                y = MARGIN
            pages[-1] += moved(block.shapes, MARGIN, y)
            y += block.h + GAP
        return [Drawing(self.w, self.h, (Box(0, 0, self.w, self.h, PAPER), *shapes)) for shapes in pages]

    def _blocks(self) -> Iterator[_Block]:
        head, columns = self._head(), self._columns()
        yield head
        yield self._map(self.h - 2 * MARGIN - FOOT - head.h - columns.h - 2 * GAP)
        yield columns
        if self.report.width is not None:
            yield self._width()
        for start in range(0, len(self.report.worst), FIGURES):
            yield self._figures(start)
        if self.report.notes:
            yield self._notes()

    # ---- blocks --------------------------------------------------------------------------------------

    def _head(self) -> _Block:
        report = self.report
        grade, kind = sentences.grade_word(report)
        color = _GRADE_COLOR[kind]
        x, w = PAD + 50 + 12, self.inner_w - 2 * PAD - 62
        shapes: list[Shape] = []
        y = PAD + 17
        for line in wrapped(sentences.title(report), w, 19, self.measure, is_bold=True)[:2]:
            shapes.append(Text(x, y, line, 19, INK, is_bold=True))
            y += 21
        first = f"{sentences.size(report)}, {report.node}, {words.times(report.started, report.ended)}"
        y -= 4
        for text, ink in ((first, SOFT), *((line, INK) for line in sentences.why_lines(report))):
            for line in wrapped(text, w, 9, self.measure)[:4]:
                shapes.append(Text(x, y, line, 9, ink))
                y += 12
        h = max(50 + 2 * PAD, y + PAD - 6)
        size = 32.0 if len(grade) <= 3 else 10.5
        while size > 6 and self.measure(grade, size, is_bold=True) > 44:
            size -= 0.5
        middle = PAD + 25
        frame = (
            Box(PAD, PAD, 50, 50, None, color, 3.2, 7),
            Text(PAD + 25, middle + size * 0.36, grade, size, INK, "middle", is_bold=True),
        )
        return self._card(h, [*frame, *shapes])

    def _map(self, room: float) -> _Block:
        """room: on the first page, if the columns shall be on it, too."""
        report, w = self.report, self.inner_w - 2 * PAD
        fixed = 2 * PAD + 14 + 10 * len(sentences.map_notes(report)) + map_drawing(report, w, 0).h
        lane_h = (room - fixed) / max(1, len(report.lanes))
        drawing = map_drawing(report, w, min(lane_h, LANES[1]) if lane_h >= LANES[0] else LANES[1])
        shapes: list[Shape] = [self._title("Defect map", PAD, PAD + 7)]
        shapes += legend(report, self.inner_w - PAD - 9, PAD + 7, measure=self.measure)
        shapes += moved(drawing.shapes, PAD, PAD + 14)
        y = PAD + 14 + drawing.h
        for line in sentences.map_notes(report):
            y += 10
            shapes.append(Text(PAD, y, line, SMALL, SOFT))
        return self._card(y + PAD, shapes)

    def _columns(self) -> _Block:
        widths = [(self.inner_w - 2 * GAP) * share / sum(SHARES) for share in SHARES]
        makers = (self._rules, self._roll_marks, self._gaps)
        columns = [make(w - 2 * PAD) for make, w in zip(makers, widths, strict=True)]
        h = max(column.h for column in columns) + 2 * PAD
        shapes: list[Shape] = []
        x = 0.0
        for column, w in zip(columns, widths, strict=True):
            shapes.append(Box(x, 0, w, h, None, LINE, 0.8, 4))
            shapes += moved(column.shapes, x + PAD, PAD)
            x += w + GAP
        return _Block(h, tuple(shapes))

    def _rules(self, w: float) -> _Block:
        judged = self.report.grade
        if judged is None or not judged["rules"]:
            return self._stack([self._heading("Rules"), self._words("No rules grade this coil.", w)])
        rules = judged["rules"]
        rows = [
            (
                words.rule_name(rule),
                words.rule_limit(rule),
                words.rule_found(rule),
                f"{_sign(rule['holds'])} {rule['grade']}",
            )
            for rule in rules[:MAX_RULES]
        ]
        colors = [GOOD if rule["holds"] else BAD for rule in rules]
        parts = [
            self._heading(f"Rules: {judged['product']}"),
            self._table(("rule", "limit", "found", ""), rows, w, last_colors=colors),
        ]
        if len(rules) > MAX_RULES:
            parts.append(self._words(f"And {len(rules) - MAX_RULES} more; the HTML file has all.", w))
        return self._stack(parts)

    def _roll_marks(self, w: float) -> _Block:
        report, parts = self.report, [self._heading("Roll marks")]
        for mark in report.roll_marks[:MAX_MARKS]:
            row = (
                f"{mark['period_m']:.3f} m",
                str(mark["lane"]),
                words.millimeters(mark["across_mm"]),
                f"{mark['seen']} of {mark['places']}",
                f"{words.number(mark['from_m'], 1)}, {words.meters(mark['to_m'])}",
            )
            parts.append(self._table(("period", "side", "across", "turns", "from, to"), [row], w))
            parts.append(self._words(words.mark_line(mark), w))
        if not report.roll_marks:
            parts.append(self._words("None found.", w))
        if len(report.roll_marks) > MAX_MARKS:
            parts.append(self._words(f"And {len(report.roll_marks) - MAX_MARKS} more.", w))
        rows = [
            (
                row.camera if row.camera == row.lane else f"{row.camera}, {row.lane}",
                *(words.meters(m) for m in (row.whole_m, row.partial_m, row.missed_m, row.unknown_m)),
            )
            for row in report.coverage[:8]
        ]
        parts += [self._heading("Surface"), self._table(("camera", "whole", "partial", "missed", "unknown"), rows, w)]
        parts.append(
            self._words(f"Not inspected: {words.percent(report.missed_share)} of the meters of all cameras.", w)
        )
        return self._stack(parts)

    def _gaps(self, w: float) -> _Block:
        report, parts = self.report, [self._heading("Coverage gaps")]
        gaps = sorted(report.gaps, key=lambda gap: (gap.kind == "partial", gap.from_m - gap.to_m))[:MAX_GAPS]
        rows = [
            (
                gap.lane if gap.lane == gap.camera else f"{gap.camera}, {gap.lane}",
                f"{words.number(gap.from_m, 1)}, {words.meters(gap.to_m)}",
                words.CAUSES.get(gap.cause, str(gap.cause)),
                gap.kind,
            )
            for gap in sorted(gaps, key=lambda gap: gap.from_m)
        ]
        parts.append(self._table(("camera", "from, to", "why", "seen"), rows, w) if rows else self._words("None.", w))
        more = len(report.gaps) - len(rows) + report.gaps_left_out
        if more:
            parts.append(self._words(f"And {more:,} more.", w))
        lanes = [lane.name for lane in report.lanes][:3]
        classes = [
            (
                f"      {words.class_name(row.class_name)}",
                *(words.number(row.by_lane.get(lane, 0)) for lane in lanes),
                "unknown" if row.per_100m is None else f"{row.per_100m:,.1f}",
                words.millimeters(row.longest_mm),
            )
            for row in report.classes[:MAX_CLASSES]
        ]
        parts.append(self._heading("By class"))
        if not classes:
            return self._stack([*parts, self._words("No defects.", w)])
        table = self._table(("class", *lanes, "a 100 m", "longest"), classes, w)
        icons = [
            shape
            for k, row in enumerate(report.classes[:MAX_CLASSES])
            for shape in class_shape(row.class_name, 6, ROW * (k + 1) + 6, 4.2, SEVERITY["minor"], self.names)
        ]
        return self._stack([*parts, _Block(table.h, (*table.shapes, *icons))])

    def _width(self) -> _Block:
        report = self.report
        assert report.width is not None
        drawing = width_drawing(report.width, report.map.reach_m, self.inner_w - 2 * PAD, 78)
        shapes = [self._title("Width", PAD, PAD + 7), *moved(drawing.shapes, PAD, PAD + 14)]
        note = self._words(sentences.width_figures(report), self.inner_w - 2 * PAD)
        shapes += moved(note.shapes, PAD, PAD + 16 + drawing.h)
        return self._card(2 * PAD + 16 + drawing.h + note.h, shapes)

    def _figures(self, start: int) -> _Block:
        shapes: list[Shape] = [self._title("Worst defects" if start == 0 else "", PAD, PAD + 7)]
        top = PAD + (14 if start == 0 else 2)
        w = (self.inner_w - 2 * PAD - (FIGURES - 1) * 10) / FIGURES
        photo_h = min(w, 118.0)
        for k, one in enumerate(self.report.worst[start : start + FIGURES]):
            shapes += moved(self._figure(one, w, photo_h), PAD + k * (w + 10), top)
        return self._card(top + photo_h + 38 + PAD, shapes)

    def _figure(self, one: WorstDefect, w: float, h: float) -> Iterator[Shape]:
        defect = one.defect
        yield Box(0, 0, w, h, SUNK, None, 0, 3)
        if one.jpeg is not None:
            yield Photo(0, 0, w, h, one.jpeg)
        else:
            lines = wrapped(one.why or "no picture", w - 16, SMALL, self.measure)[:5]
            for k, line in enumerate(lines):
                yield Text(w / 2, h / 2 + 10 * (k - (len(lines) - 1) / 2), line, SMALL, SOFT, "middle")
        color = SEVERITY.get(defect.severity, SEVERITY["critical"])
        yield from class_shape(defect.class_name, 4, h + 9, 4, color, self.names)
        name = words.shortened(words.class_name(defect.class_name), 20)
        yield Text(11, h + 12, name, 8, INK, is_bold=True)
        if defect.severity != "minor":
            x = 11 + self.measure(name + " ", 8, is_bold=True)
            yield Text(x, h + 12, defect.severity, 8, color, is_bold=True)
        place = "place unknown" if defect.from_m is None else words.meters(defect.from_m, 2)
        yield Text(0, h + 22.5, words.shortened(f"{place}, {defect.lane}", 32), 8, INK)
        yield Text(0, h + 32, f"{sentences.across(defect.across_mm)}", SMALL, SOFT)
        yield Text(w, h + 22.5, sentences.length(defect.length_mm), SMALL, SOFT, "end")

    def _notes(self) -> _Block:
        report, w = self.report, self.inner_w - 2 * PAD
        parts = [self._heading("Notes")]
        shown = report.notes[:MAX_NOTES]
        parts += [self._words(f"{words.date_time(note.time)}: {note.text}", w, most=2) for note in shown]
        more = len(report.notes) - len(shown) + report.notes_left_out
        if more:
            parts.append(self._words(f"And {more} more.", w))
        block = self._stack(parts)
        return self._card(block.h + 2 * PAD, list(moved(block.shapes, PAD, PAD)))

    # ---- parts ---------------------------------------------------------------------------------------

    def _card(self, h: float, shapes: Sequence[Shape]) -> _Block:
        return _Block(h, (Box(0, 0, self.inner_w, h, None, LINE, 0.8, 4), *shapes))

    def _title(self, text: str, x: float, y: float) -> Text:
        return Text(x, y, text.upper(), SMALL, SOFT, is_bold=True)

    def _heading(self, text: str) -> _Block:
        return _Block(12, (self._title(words.shortened(text, 40), 0, 7),))

    def _words(self, text: str, w: float, most: int = 6) -> _Block:
        lines = wrapped(text, w, SMALL, self.measure)[:most]
        return _Block(
            10 * len(lines) + 4, tuple(Text(0, 9 + 10 * k, line, SMALL, SOFT) for k, line in enumerate(lines))
        )

    def _stack(self, blocks: Sequence[_Block]) -> _Block:
        shapes: list[Shape] = []
        y = 0.0
        for k, block in enumerate(blocks):
            is_heading = block.h == 12 and k > 0
            y += 6 if is_heading else 0
            shapes += moved(block.shapes, 0, y)
            y += block.h
        return _Block(y, tuple(shapes))

    def _table(
        self, heads: Sequence[str], rows: Sequence[Sequence[str]], w: float, last_colors: Sequence[str] = ()
    ) -> _Block:
        """The first column takes the space that the others leave; what does not fit is cut."""
        widths = [
            max(
                [
                    self.measure(heads[c], SMALL),
                    *(self.measure(row[c], BODY, is_bold=bool(last_colors)) for row in rows),
                ]
            )
            + 7
            for c in range(len(heads))
        ]
        rest = w - sum(widths[1:])
        least = min(widths[0], FIRST_COLUMN)
        if rest < least:  # shrink the widest other column
            widest = max(range(1, len(heads)), key=lambda c: widths[c])
            widths[widest] = max(30.0, widths[widest] - (least - rest))
            rest = w - sum(widths[1:])
        widths[0] = rest
        shapes: list[Shape] = []
        for r, row in enumerate((heads, *rows)):
            y, x = ROW * r, 0.0
            if r:
                shapes.append(Stroke(((0, y), (w, y)), LINE_SOFT, 0.7))
            for c, text in enumerate(row):
                is_last = bool(r and last_colors and c == len(heads) - 1)
                size, color = (BODY, last_colors[r - 1] if is_last else INK) if r else (SMALL, SOFT)
                cut = self._cut(text, widths[c] - 4, size, is_bold=is_last)
                at, anchor = (x, "start") if c == 0 else (x + widths[c], "end")
                shapes.append(Text(at, y + 9, cut, size, color, _anchor(anchor), is_last))
                x += widths[c]
        return _Block(ROW * (len(rows) + 1), tuple(shapes))

    def _cut(self, text: str, w: float, size: float, *, is_bold: bool) -> str:
        if self.measure(text, size, is_bold=is_bold) <= w:
            return text
        while len(text) > 1 and self.measure(text + "\u2026", size, is_bold=is_bold) > w:
            text = text[:-1]
        return text.rstrip() + "\u2026"


def _anchor(name: str) -> Anchor:
    return "end" if name == "end" else "start"


def _sign(holds: bool | None) -> str:  # noqa: FBT001 (what a rule says)
    return "?" if holds is None else "\u2713" if holds else "\u2717"
