"""Debian's Chromium for the tests of the page, and everything that a page says or asks for while it is open."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

PATIENCE_MS = 20_000
EVIDENCE = "/api/v1/evidence/"
"""A browser reports each picture that is not in the archive; what the page shows in its place is no fault."""
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
DESK = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}


def need_chromium() -> str:
    """Path of the browser.  Without it, or without Playwright: skip with the reason, but fail where the CI runs."""
    try:
        import playwright  # noqa: F401
    except ImportError:
        refuse("Playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        refuse("Chromium is not installed")
    return str(path)


def refuse(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def chromium(*more: str) -> Iterator[Any]:
    """A browser.  more: further arguments of it."""
    path = need_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS, *more])
        try:
            yield browser
        finally:
            browser.close()


class Observer:
    """What a browser context says: console messages, errors of scripts, requests to anywhere but `origin`."""

    def __init__(self, context: Any, origin: str) -> None:
        self._origin = origin
        self.said: list[str] = []
        self.foreign: list[str] = []
        context.on("console", self._heard)
        context.on("weberror", lambda error: self.said.append(f"error: {error.error}"))
        context.on("request", self._asked)

    def _heard(self, message: Any) -> None:
        is_gone = EVIDENCE in message.location.get("url", "") and "404" in message.text
        if message.type in {"error", "warning"} and not is_gone:
            self.said.append(f"{message.type}: {message.text}")

    def _asked(self, request: Any) -> None:
        address = urlsplit(request.url)
        if address.scheme not in {"blob", "data"} and f"{address.scheme}://{address.netloc}" != self._origin:
            self.foreign.append(request.url)

    def check(self, what: str) -> None:
        """Fails when anything was said or asked since the last time."""
        said, foreign = list(self.said), list(self.foreign)
        self.forget()
        assert not said + foreign, (what, said, foreign)

    def forget(self) -> None:
        self.said.clear()
        self.foreign.clear()
