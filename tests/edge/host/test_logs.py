"""The format of log lines, and the secrets that they never contain."""

import io
import json
import logging

import pytest

from edge.host import logs

SECRET = "hunter2"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def restored():
    """Restores the root logger after the test."""
    root = logging.getLogger()
    kept = root.handlers[:], root.level, logging.getLogger("edge").level
    yield
    root.handlers[:], level, edge_level = kept
    root.setLevel(level)
    logging.getLogger("edge").setLevel(edge_level)


def lines(style, write, level="debug", stream=None):
    stream = io.StringIO() if stream is None else stream
    logs.start(level, style, stream)
    write(logging.getLogger("edge.camera.sources.device"))
    return stream.getvalue()


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(
    ("level", "priority"),
    [("debug", 7), ("info", 6), ("warning", 4), ("error", 3), ("critical", 2)],
)
def test_json_line_carries_the_journal_priority(level, priority):
    """Each line starts with <N>, which journald takes as its severity."""
    text = lines("json", lambda to: getattr(to, level)("x"))
    assert text.startswith(f"<{priority}>{{")


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(
    "message", ["plain", "two\nlines", 'quote " and \\', "ünï\u2028cödé", "lone \udc80 byte", "\x00\x1b[31m"]
)
def test_json_line_is_one_line_of_json(message):
    """Any message gives one ASCII line that parses to the same message."""
    text = lines("json", lambda to: to.info("%s", message))
    assert text.count("\n") == 1
    assert text.isascii()
    line = json.loads(text.partition(">")[2])
    assert line["message"] == message
    assert (line["level"], line["logger"]) == ("info", "edge.camera.sources.device")
    assert line["time"].endswith("Z")


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("style", ["plain", "json"])
@pytest.mark.parametrize(
    "url",
    [
        f"rtsp://admin:{SECRET}@10.0.0.5:554/ch1",
        f"rtsp://admin:{SECRET}/x?y#z@10.0.0.5/ch1",
        f"RTSP://:{SECRET}@cam",
        f"http://cam/video.cgi?user=admin&pwd={SECRET}&x=1",
        f"rtsp://cam/user=admin&password={SECRET}&channel=1",
        f"mqtts://{SECRET}@broker:8883",
        f"https://cam/a?access_token={SECRET}",
    ],
)
def test_log_never_shows_credentials(style, url):
    """A URL shows no credentials as an argument, in a traceback or in its cause."""

    def write(to):
        to.warning("cannot open %s", url)
        try:
            try:
                raise OSError(url)
            except OSError as error:
                raise RuntimeError(f"reading {url} failed") from error
        except RuntimeError:
            to.exception("broke at %s", url)

    text = lines(style, write)
    assert SECRET not in text
    assert "***" in text
    assert "RuntimeError" in text


@pytest.mark.usefixtures("restored")
def test_plain_line_names_level_and_module():
    """The line shows time, level, module and message."""
    text = lines("plain", lambda to: to.warning("lost for %d s", 3))
    assert text.split()[2:] == ["!", "warning", "device", "lost", "for", "3", "s"]


@pytest.mark.usefixtures("restored")
def test_auto_style_is_plain_on_a_terminal_only():
    """A terminal gets plain lines, a pipe gets JSON."""
    assert not lines("auto", lambda to: to.info("x"), stream=Terminal()).startswith("<")
    assert lines("auto", lambda to: to.info("x")).startswith("<6>{")


@pytest.mark.usefixtures("restored")
def test_log_that_a_person_pipes_into_tee_stays_plain(monkeypatch):
    """A person types at a terminal; a service has none."""
    monkeypatch.setattr("sys.stdin", Terminal())
    assert not lines("auto", lambda to: to.info("x")).startswith("<")
    monkeypatch.setattr("sys.stdin", None)
    assert lines("auto", lambda to: to.info("x")).startswith("<6>{")


@pytest.mark.usefixtures("restored")
def test_level_applies_to_edge_and_libraries_only_warn():
    """`level` is for this program's modules; libraries log from warnings on."""
    stream = io.StringIO()
    logs.start("info", "plain", stream)
    logging.getLogger("edge.x").debug("one")
    logging.getLogger("edge.x").info("two")
    logging.getLogger("paho").info("three")
    logging.getLogger("paho").warning("four")
    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == ["two", "four"]


@pytest.mark.usefixtures("restored")
def test_starting_twice_does_not_double_lines():
    """A reload leaves one handler."""
    stream = io.StringIO()
    logs.start("info", "plain", stream)
    logs.start("info", "plain", stream)
    logging.getLogger("edge").info("x")
    assert stream.getvalue().count("\n") == 1


@pytest.mark.usefixtures("restored")
def test_stderr_is_the_stream_at_the_time_of_starting(capsys):
    """A stderr that was replaced since the import is the one written to."""
    logs.start("info", "plain")
    logging.getLogger("edge").info("here")
    assert "here" in capsys.readouterr().err
