"""The master of a report: one HTML file with everything in it, for the screen and for print.  No script, no request."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from edge.report import sentences, words
from edge.report.class_shapes import class_shape
from edge.report.coil_report import CoilReport, WorstDefect
from edge.report.drawing import SEVERITY, Drawing
from edge.report.map_drawing import legend, map_drawing, width_drawing
from edge.report.svg import svg_of

MAP_W: Final = 1040.0
GAPS_SHOWN: Final = 40
PAPERS: Final = {"a4": "A4", "letter": "Letter"}

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_CSS: Final = Path(__file__).with_name("page.css").read_text("utf-8")


def html_of(report: CoilReport, paper: str = "a4") -> bytes:
    """The page, UTF-8.  paper: for print, a4 or letter."""
    name = sentences.title(report)
    body = "".join(
        (
            _head(report, name),
            _map(report),
            f'<div class="cols">{_rules(report)}{_roll_marks(report)}{_gaps(report)}</div>',
            _width(report),
            _worst(report),
            _notes(report),
            _foot(report),
        )
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(name)}, {escape(report.node)}</title>"
        f"<style>@page{{size:{PAPERS[paper]} landscape;margin:9mm}}{_CSS}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )
    return page.encode("utf-8", "replace")


def _head(report: CoilReport, name: str) -> str:
    grade, kind = sentences.grade_word(report)
    word = " word" if len(grade) > 3 else ""
    counts = ", ".join(
        f'<b class="{severity}">{words.number(n)} {severity}</b>'
        if n and severity != "minor"
        else f"{words.number(n)} {severity}"
        for severity, n in report.severities.items()
    )
    size = f"<b>{words.meters(report.length_m)}</b>" if report.length_m is not None else "length unknown"
    wide = f" x {words.millimeters(report.width.mean)}" if report.width else ""
    facts = f"{size}{wide}, {escape(report.node)}, {escape(words.times(report.started, report.ended))}"
    facts += f", <b>{words.number(report.defects)}</b> {'defect' if report.defects == 1 else 'defects'}: {counts}"
    lines = "".join(f"<p>{escape(line)}</p>" for line in sentences.why_lines(report))
    return (
        f'<section class="head"><div class="grade {kind}{word}">{escape(grade)}</div><div><h1>{escape(name)}</h1>'
        f'<p class="soft">{facts}</p>{lines}</div></section>'
    )


def _map(report: CoilReport) -> str:
    drawing = map_drawing(report, MAP_W)
    top = 16.0
    head = tuple(legend(report, MAP_W - 9, 8))
    drawn = svg_of(Drawing(MAP_W, top, head), "Legend")
    where = "the head" if report.counted_from == "head" else "the tail"
    notes = [f"Places along count from {where} of the coil, across from the operator side."]
    notes += sentences.map_notes(report)
    text = " ".join(notes)
    title = f"Map of {words.count(report.defects, 'defect')}"
    note = f'<p class="note">{escape(text)}</p>'
    return f'<section class="map"><h2>Defect map</h2>{drawn}{svg_of(drawing, title)}{note}</section>'


def _rules(report: CoilReport) -> str:
    judged = report.grade
    if judged is None or not judged["rules"]:
        return '<section><h2>Rules</h2><p class="soft">No rules grade this coil.</p></section>'
    rows = [
        (
            escape(words.rule_name(rule)),
            escape(f"{words.rule_limit(rule)}"),
            escape(words.rule_found(rule)),
            verdict_html(rule),
        )
        for rule in judged["rules"]
    ]
    table = _table(("rule", "limit", "found", ""), rows)
    return f"<section><h2>Rules: {escape(str(judged['product']))}</h2>{table}</section>"


def verdict_html(rule: Mapping[str, Any]) -> str:
    """The grade that the rule is of, with a mark; shape and colour."""
    if rule["holds"]:
        return f'<span class="pass">&#10003; {escape(rule["grade"])}</span>'
    sign = "&#10007;" if rule["holds"] is False else "?"
    return f'<span class="fail">{sign} {escape(rule["grade"])}</span>'


def _roll_marks(report: CoilReport) -> str:
    if report.roll_marks:
        parts = []
        for mark in report.roll_marks[:6]:
            row = (
                f"<b>{mark['period_m']:.3f} m</b>",
                escape(mark["lane"]),
                words.millimeters(mark["across_mm"]),
                f"{mark['seen']} of {mark['places']}",
                f"{words.number(mark['from_m'], 1)}, {words.meters(mark['to_m'])}",
            )
            parts.append(_table(("period", "side", "across", "turns", "from, to"), [row]))
            parts.append(f'<p class="note">{escape(words.mark_line(mark))}</p>')
        marks = "".join(parts)
        if len(report.roll_marks) > 6:
            marks += f'<p class="note">And {len(report.roll_marks) - 6} more.</p>'
    else:
        marks = '<p class="soft">None found.</p>'
    rows = [
        (
            escape(row.camera if row.camera == row.lane else f"{row.camera}, {row.lane}"),
            *(words.meters(m) for m in (row.whole_m, row.partial_m, row.missed_m, row.unknown_m)),
        )
        for row in report.coverage
    ]
    surface = _table(("camera", "whole", "partial", "missed", "unknown"), rows)
    share = f'<p class="note">Not inspected: {words.percent(report.missed_share)} of the meters of all cameras.</p>'
    return f"<section><h2>Roll marks</h2>{marks}<h2>Surface</h2>{surface}{share}</section>"


def _gaps(report: CoilReport) -> str:
    rows = [
        (
            escape(gap.lane if gap.lane == gap.camera else f"{gap.camera}, {gap.lane}"),
            f"{words.number(gap.from_m, 1)}, {words.meters(gap.to_m)}",
            escape(words.CAUSES.get(gap.cause, str(gap.cause))),
            gap.kind,
        )
        for gap in report.gaps[:GAPS_SHOWN]
    ]
    table = _table(("camera", "from, to", "why", "seen"), rows) if rows else '<p class="soft">None.</p>'
    more = len(report.gaps) - len(rows) + report.gaps_left_out
    note = f'<p class="note">And {more:,} more; the JSON file has the {len(report.gaps)} longest.</p>' if more else ""
    lanes = [lane.name for lane in report.lanes]
    names = tuple(row.class_name for row in report.classes)
    classes = [
        (
            _icon(row.class_name, names) + escape(words.class_name(row.class_name)),
            *(words.number(row.by_lane.get(lane, 0)) for lane in lanes),
            "unknown" if row.per_100m is None else f"{row.per_100m:.1f}",
            words.millimeters(row.longest_mm),
        )
        for row in report.classes
    ]
    heads = ("class", *(escape(lane) for lane in lanes), "a 100 m", "longest")
    by_class = _table(heads, classes) if classes else '<p class="soft">No defects.</p>'
    return f"<section><h2>Coverage gaps</h2>{table}{note}<h2>By class</h2>{by_class}</section>"


def _width(report: CoilReport) -> str:
    width = report.width
    if width is None:
        return ""
    drawing = width_drawing(width, report.map.reach_m, MAP_W)
    return (
        f'<section class="map"><h2>Width</h2>{svg_of(drawing, "Width along the coil")}'
        f'<p class="note">{escape(sentences.width_figures(report))}</p></section>'
    )


def _worst(report: CoilReport) -> str:
    if not report.worst:
        return ""
    names = tuple(row.class_name for row in report.classes)
    figures = "".join(_figure(one, names) for one in report.worst)
    return f'<section><h2>Worst defects</h2><div class="worst">{figures}</div></section>'


def _figure(one: WorstDefect, names: Sequence[str]) -> str:
    defect = one.defect
    if one.jpeg is None:
        picture = f'<div class="none">{escape(one.why or "no picture")}</div>'
    else:
        picture = f'<img alt="" src="data:image/jpeg;base64,{b64encode(one.jpeg).decode()}">'
    severity = (
        "" if defect.severity == "minor" else f' <b class="{escape(defect.severity)}">{escape(defect.severity)}</b>'
    )
    place = "place unknown" if defect.from_m is None else f"<b>{words.meters(defect.from_m, 2)}</b>"
    icon = _icon(defect.class_name, names, defect.severity)
    return (
        f"<figure>{picture}{icon}<b>{escape(words.class_name(defect.class_name))}</b>{severity}<br>{place}, "
        f"{escape(defect.lane)}<br>{sentences.across(defect.across_mm)}, {sentences.length(defect.length_mm)}</figure>"
    )


def _notes(report: CoilReport) -> str:
    if not report.notes:
        return ""
    shown = report.notes[:30]
    more = len(report.notes) - len(shown) + report.notes_left_out
    lines = "".join(f"<li>{escape(words.date_time(one.time))}: {escape(one.text)}</li>" for one in shown)
    return f"<section><h2>Notes</h2><ul>{lines}</ul>{f'<p>And {more} more.</p>' if more else ''}</section>"


def _foot(report: CoilReport) -> str:
    return f"<footer>{escape(sentences.origin(report))}</footer>"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """heads, cells: HTML."""
    head = "".join(f"<th>{one}</th>" for one in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="frame"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _icon(name: str, names: Sequence[str], severity: str = "minor") -> str:
    color = SEVERITY.get(severity, SEVERITY["critical"])
    drawing = Drawing(16, 16, tuple(class_shape(name, 8, 8, 8, color, tuple(names))))
    return svg_of(drawing, words.class_name(name)).replace("<svg ", '<svg class="icon" ', 1)
