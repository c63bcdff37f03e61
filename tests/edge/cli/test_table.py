"""Tables of the command line: for people on a terminal, and for a pipe."""

import json
from types import SimpleNamespace

import pytest

from edge.cli import event_table, table
from edge.cli.table import Column

COLUMNS = (Column("name", folds=True), Column("n", right=True))
ROWS = [(("top", "bold red"), "7"), ("bottom of the line " * 8, "12")]


def test_a_table_in_a_pipe_is_plain_and_never_broken(capsys):
    """One line a row, without colour and without blanks at its end."""
    table.show(COLUMNS, ROWS)
    head, first, second = capsys.readouterr().out.splitlines()
    assert (head.split(), first.split()) == (["name", "n"], ["top", "7"])
    assert len(second) > 150
    assert first.index("7") == second.index("12") + 1
    assert "\x1b" not in head + first + second


@pytest.mark.parametrize("no_colour", [False, True])
def test_a_table_on_a_terminal_fits_it_and_obeys_no_color(monkeypatch, no_colour):
    """Colour is an addition: the words are the same without it."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    (monkeypatch.setenv if no_colour else monkeypatch.delenv)("NO_COLOR", *(("1",) if no_colour else (False,)))
    cells = [[(cell, "") if isinstance(cell, str) else cell for cell in row] for row in ROWS]
    lines = table._lines(COLUMNS, cells, is_terminal=True)
    assert len(lines) > 3
    assert any("31m" in line for line in lines) is not no_colour
    assert any("top" in line for line in lines)


def test_text_from_outside_cannot_act_on_the_terminal(capsys):
    """An escape in a cell is shown as text."""
    table.show((Column("name"),), [("\x1b[2J",)])
    assert "\x1b" not in capsys.readouterr().out


def test_an_empty_table_prints_nothing(capsys):
    """No head without rows."""
    table.show(COLUMNS, [])
    assert capsys.readouterr().out == ""


def test_events_show_what_where_and_how_large(capsys):
    """By metres and coil where the position is known, by pixels otherwise; what is no event is shown as such."""
    defect = {"class": "scratches", "severity": "major", "confidence": 0.97, "box_px": [1, 2, 3, 4], "length_mm": 31.4}
    event = {"time": "2026-11-22T14:00:00.000Z", "seq": 7, "camera": "top", "type": "defect.closed"}
    payloads = [
        event | {"defect": defect},
        event | {"defect": defect | {"position_m": 12.345, "coil": "A1"}},
        event | {"type": "camera.lost", "detail": {"reason": "no route"}},
        [1],
    ]
    event_table.show([SimpleNamespace(payload=json.dumps(one).encode(), state="queued") for one in payloads])
    _, by_px, by_m, lost, other = capsys.readouterr().out.splitlines()
    assert "scratches major 0.97, 31 mm long" in by_px
    assert "1,2 3x4 px" in by_px
    assert "12.35 m on A1" in by_m or "12.34 m on A1" in by_m
    assert "camera.lost" in lost
    assert "reason no route" in lost
    assert "not an event" in other
