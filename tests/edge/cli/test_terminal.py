"""The log of `defectd run` on a terminal: the view is a process, and the log never waits for it."""

import io
import logging
import sys
import time

import pytest

from edge.cli import terminal
from edge.host import logs


@pytest.fixture(autouse=True)
def _restore_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def view(script):
    return ("-c", script)


def test_log_lines_reach_the_view(tmp_path, capfd):
    """A line that is logged while the view runs is printed by the view, before `run` returns."""
    script = "import sys; sys.stdout.write('view: ' + sys.stdin.read())"
    with terminal.LiveTerminal(tmp_path / "s", "info", view(script)):
        logging.getLogger("edge.test").warning("the disk is full")
    assert '"message": "the disk is full"' in capfd.readouterr().out


def test_a_view_that_does_not_read_costs_lines_not_time(tmp_path, capfd):
    """With a full pipe each line is counted and dropped at once."""
    with terminal.LiveTerminal(tmp_path / "s", "info", view("import time; time.sleep(60)")) as shown:
        started = time.monotonic()
        for _ in range(2000):
            logging.getLogger("edge.test").warning("x" * 200)
        assert time.monotonic() - started < 2.0
        assert shown.lost > 0
        shown._view.kill()


def test_a_view_that_has_died_is_replaced_by_plain_lines(tmp_path, monkeypatch):
    """What is logged later appears as plain text on standard error."""
    stderr = io.StringIO()
    with terminal.LiveTerminal(tmp_path / "s", "info", view("")) as shown:
        shown._view.wait(10)
        monkeypatch.setattr(sys, "stderr", stderr)
        logging.getLogger("edge.test").warning("first")
        logging.getLogger("edge.test").warning("second")
    assert "first" in stderr.getvalue()
    assert "warning test        second" in stderr.getvalue()


def test_json_is_written_without_a_terminal():
    """A stream that is no terminal needs no `isatty` when the format is given."""
    stream = io.StringIO()
    logs.start("info", "json", stream)
    logging.getLogger("edge.test").info("hello")
    assert '"message": "hello"' in stream.getvalue()
