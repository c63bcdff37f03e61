"""The ring of log records: bounded, without credentials, and harmless for who logs."""

from __future__ import annotations

import logging

import pytest

from edge.delivery.page.log_ring import MAX_AT_A_TIME, MAX_CHARACTERS, LogRing


@pytest.fixture
def ring():
    return LogRing(max_records=300)


@pytest.fixture
def log(ring):
    made = logging.getLogger("edge.camera.test_log_ring")
    made.setLevel(logging.INFO)
    made.addHandler(ring)
    yield made
    made.removeHandler(ring)


def test_records_come_once_in_order_and_some_at_a_time(ring, log):
    """A reader asks for what is after the last number that it has; numbers show what was dropped."""
    for number in range(1, 401):
        log.info("line %d", number)
    first = ring.after(0)
    assert (len(first), first[0]["number"], first[0]["message"]) == (MAX_AT_A_TIME, 101, "line 101")
    rest = ring.after(first[-1]["number"])
    assert (rest[0]["number"], rest[-1]["number"], ring.last) == (301, 400, 400)
    assert ring.after(400) == []


def test_credentials_are_removed_before_anything_is_cut(ring, log):
    """Of URLs in the message, in its arguments and in tracebacks; a cut leaves no part of them."""
    try:
        raise OSError("rtsp://admin:hunter2@10.0.0.7/stream is closed")
    except OSError:
        log.exception("camera %s", "rtsp://admin:hunter2@10.0.0.7/a?password=hunter2")
    log.info("%s rtsp://admin:hunter2@10.0.0.7/a", "x" * (MAX_CHARACTERS - 24))
    kept = ring.after(0)
    assert "hunter2" not in str(kept)
    assert "Traceback" in kept[0]["message"]
    assert kept[0]["level"] == "error"
    assert len(kept[1]["message"]) <= MAX_CHARACTERS


def test_message_that_cannot_be_formatted_harms_nobody(ring, log, monkeypatch):
    """It is left out; controls of terminals become escapes."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.info("%d", "no number")
    log.info("a \x1b[31m line\nand another")
    assert [one["message"] for one in ring.after(0)] == ["a \\x1b[31m line\nand another"]
