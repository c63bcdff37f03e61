"""The lines of the daemon's log in the page process."""

from edge.web.log_lines import MAX_LINES, LogLines


def record(number, level="info"):
    names = ("logger", "thread")
    return {"number": number, "time": "2026-11-29T00:00:00.000Z", "level": level, **dict.fromkeys(names, "n")} | {
        "message": f"m{number}"
    }


def test_repeated_records_are_known_and_those_of_a_new_daemon_are_not():
    """A new connection sends what the feed still has; a new feed counts from 1 again."""
    lines = LogLines()
    lines.take("e1", [record(1), record(2)])
    lines.take("e1", [record(1), record(2), record(3)])
    lines.take("e2", [record(1)])
    assert [(one["line"], one["message"]) for one in lines.after(0, "debug")] == [
        (1, "m1"),
        (2, "m2"),
        (3, "m3"),
        (4, "m1"),
    ]
    assert [one["line"] for one in lines.after(3, "info")] == [4]


def test_lines_are_bounded_and_can_be_asked_for_by_level():
    """Unknown levels count as serious ones."""
    lines = LogLines()
    lines.take("e1", [record(number, ("info", "error", "odd")[number % 3]) for number in range(1, MAX_LINES + 101)])
    assert len(lines.after(0, "debug")) == MAX_LINES
    assert {one["level"] for one in lines.after(0, "warning")} == {"error", "odd"}
    assert lines.last == MAX_LINES + 100
