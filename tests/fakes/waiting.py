"""Waits for facts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(fact: Callable[[], Any], timeout_s: float = 10.0, what: str = "") -> Any:
    """Wait until a fact holds.  Returns its value; fails with `what` after the timeout."""
    end = time.monotonic() + timeout_s
    while not (value := fact()):
        assert time.monotonic() < end, f"not within {timeout_s:g} s: {what or fact}"
        time.sleep(0.005)
    return value
