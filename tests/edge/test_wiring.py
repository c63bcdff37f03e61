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
