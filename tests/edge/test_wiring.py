"""What the wired parts write into the log."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edge.pipeline.histogram import Summary
from edge.pipeline.reporting import Report
from edge.wiring import _log_period


def test_report_line_gives_the_reasons_of_bad_pictures(caplog: pytest.LogCaptureFixture) -> None:
    """`bad_image 285` alone does not say what to do."""
    caplog.set_level("INFO", "edge")
    summary = Summary(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    message = {"frames": {"ok": 0, "bad_image": 285}, "partial": 0}
    report = Report("top", "bad_image", 30.0, summary, {}, message, 0, {"dark": 280, "torn": 5})
    recorder: Any = SimpleNamespace(waiting=0, stored=0)
    publisher: Any = SimpleNamespace(snapshot=lambda: SimpleNamespace(connected=True, depth=0))
    _log_period([report], recorder, publisher)
    assert "bad_image 285 (280 dark, 5 torn)" in caplog.text


def test_the_last_report_of_a_clean_stop_says_stopped(caplog: pytest.LogCaptureFixture) -> None:
    """A camera without signal because the node ends is no fault; one that is lost has its reason."""
    caplog.set_level("INFO", "edge")
    message: dict[str, Any] = {"frames": {"ok": 5}, "partial": 0}
    recorder: Any = SimpleNamespace(waiting=0, stored=0)
    publisher: Any = SimpleNamespace(snapshot=lambda: SimpleNamespace(connected=True, depth=0))
    for reason in ("stopped", "no route to host"):
        summary = Summary(0, 0.0, 0.0, 0.0, 0.0, 0.0)
        _log_period([Report("top", "no_signal", 9.0, summary, {}, message, 0, reason=reason)], recorder, publisher)
    ended, lost = caplog.messages
    assert ended.startswith("top: stopped, 9.0 fps, no verdict, ok 5")
    assert lost.startswith("top: no_signal (no route to host), ")
