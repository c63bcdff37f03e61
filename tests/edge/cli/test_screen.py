"""What a terminal shows: every meaning is in the words, also without colour and on 80 columns."""

import io
import time

import pytest
from rich.console import Console

from edge.cli import screen

STATE = {
    "node": "line3",
    "verdict": "degraded",
    "reasons": ["camera bottom: no_signal: connection refused"],
    "strip": {
        "is_on": True,
        "coil": "A4711",
        "position_m": 812.42,
        "speed_m_per_s": 1.5,
        "partial_m": 9.1,
        "missed_m": 1.3,
        "defects": {"minor": 37, "major": 3, "critical": 1},
    },
    "cameras": [
        {
            "name": "top",
            "state": "running",
            "reason": None,
            "fps": 30.0,
            "p99_ms": 4.04,
            "budget_ms": 20,
            "frames": {"ok": 1000, "defect": 20, "unsure": 4, "bad_image": 3, "late": 2, "dropped": 0},
            "defects": 41,
        },
        {"name": "bottom", "state": "no_signal", "reason": "connection refused", "defects": 0},
    ],
    "delivery": {"connected": False, "queued": 12},
    "model": {"version": "0.1.1", "precision": "int8"},
}
DEFECT = {
    "time": "2026-11-22T13:46:11.482Z",
    "camera": "top",
    "type": "defect.closed",
    "defect": {
        "class": "scratches",
        "severity": "major",
        "confidence": 0.97,
        "position_m": 812.31,
        "across_mm": [412.0, 430.0],
        "length_mm": 44.2,
    },
}


def shown(renderable, width=80):
    output = io.StringIO()
    Console(file=output, width=width, no_color=True, highlight=False).print(renderable)
    return output.getvalue()


def test_header_states_verdict_reasons_and_what_was_missed():
    """A reader without colours sees that the node is degraded, why, and which frames were not inspected."""
    text = shown(screen.header(STATE), 110)
    for words in (
        "! degraded",
        "1 of 2 cameras",
        "broker AWAY, 12 wait",
        "camera bottom: no_signal: connection refused",
        "coil A4711  812.4 m  90 m/min",
        "1 critical",
        "4.0 of 20",
        "5 (3 bad, 2 late)",
    ):
        assert words in text


def test_header_fits_80_columns():
    """No line of the header is cut or wrapped at the usual width, and every figure is there."""
    text = shown(screen.header(STATE))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "1,024" in text
    assert "…" not in text


def test_unknown_figures_are_dashes():
    """A camera without a report shows no zeros."""
    (line,) = [line for line in shown(screen.cameras(STATE["cameras"])).splitlines() if line.startswith("bottom")]
    assert "0.0" not in line
    assert "- of -" in line


def test_defect_line_has_class_severity_place_and_size():
    """One defect is one line with what a person needs at the line."""
    line = shown(screen.event_line(DEFECT, "warning"), 130)
    assert line.count("\n") == 1
    for words in ("top", "scratches", "major", "0.97", "at 812.31 m", "412 mm across", "44 mm long"):
        assert words in line


def test_other_events_show_their_detail():
    """An event without a defect shows its type and the facts in its detail."""
    event = {"camera": "top", "type": "coverage.gap", "defect": None, "detail": {"cause": "overload", "seconds": 1.25}}
    assert "coverage.gap  cause overload  seconds 1.25" in shown(screen.event_line(event, "warning"), 130)


def test_moments_and_counts_of_an_event_are_for_people(monkeypatch):
    """One clock on the whole screen: local time, also inside an event; no Python in the words."""
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    try:
        detail = {"from": "2026-11-29T23:12:13.478Z", "frames": {"late": 22, "dropped": 1}, "reasons": ["a", "b"]}
        event = {"camera": "top", "type": "coverage.gap", "defect": None, "detail": detail}
        line = shown(screen.event_line(event, "warning"), 160)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert "from 00:12:13.478 CET  frames 22 late, 1 dropped  reasons a, b" in line


@pytest.mark.parametrize(("level", "mark"), [("warning", "! "), ("error", "✗ "), ("info", "")])
def test_a_warning_does_not_look_like_information(level, mark):
    """The mark stands before the words, so that it survives without colour."""
    assert shown(screen.log_line({"level": level, "message": "disk is full"})).strip() == f"{mark}disk is full".strip()


def test_text_from_outside_cannot_act_on_the_terminal():
    """An escape in a coil's name or in the detail of an event is shown, not obeyed."""
    event = {"camera": "node", "type": "coil.started", "defect": None, "detail": {"coil": "\x1b[2J[bold]x"}}
    assert "\x1b" not in shown(screen.event_line(event, "info"))
    assert "[bold]x" in shown(screen.event_line(event, "info"))
