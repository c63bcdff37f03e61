"""The first five minutes: the daemon as it is delivered, its link on the terminal, and a newcomer at the page."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chromium import DESK, PATIENCE_MS
from fakes.ports import free_port
from fakes.waiting import until

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
MAX_CLICKS = 12
START_S = 30.0
PICTURE = """() => {
  const shown = document.querySelector(".event-picture image, .event-picture img");
  const address = shown && new URL(shown.getAttribute("href") ?? shown.src, location.href).href;
  return performance.getEntriesByType("resource").some((one) => one.name === address && one.responseStatus === 200);
}"""
LINK = re.compile(r"Open the page:\s+(http://\S+/enter\?token=[\w-]+)")


class Terminal:
    """`defectd run` with the configuration that is delivered, on free ports, at a terminal."""

    def __init__(self, folder: Path) -> None:
        content = yaml.safe_load((ROOT / "config.yaml").read_text("utf-8"))
        content["state_dir"] = str(folder / "var")
        content["mqtt"]["broker"] = f"embedded:{free_port()}"
        content["metrics"]["listen"] = None
        content["web"]["listen"] = f"127.0.0.1:{free_port()}"
        self.state_dir = folder / "var"
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump(content))
        self._end, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge.cli", "run", "-c", str(config)],
            stdin=child,
            stdout=child,
            stderr=child,
            env={**os.environ, "TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(child)
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read, name="terminal")
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._end, 65_536)
            except OSError:  # the terminal has no other end any more
                return
            self._seen += data

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._seen.decode("utf-8", "replace"))

    def close(self) -> int:
        """Ctrl-C.  Returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self._reader.join(10)
            os.close(self._end)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path)
    try:
        yield opened
    finally:
        if opened.process.returncode is None:
            opened.close()


class Hand:
    """A person at the page, whose clicks and keys are counted by step."""

    def __init__(self, page: Any) -> None:
        self._page = page
        self.clicks: Counter[str] = Counter()
        self.keys: Counter[str] = Counter()
        self.step = ""

    def click(self, target: Any) -> None:
        target.click()
        self.clicks[self.step] += 1

    def press(self, key: str) -> None:
        self._page.keyboard.press(key)
        self.keys[self.step] += 1

    def drag(self, box: dict[str, float]) -> None:
        """A rectangle over most of this box; counts as a click."""
        mouse = self._page.mouse
        mouse.move(box["x"] + 0.05 * box["width"], box["y"] + 0.05 * box["height"])
        mouse.down()
        mouse.move(box["x"] + 0.95 * box["width"], box["y"] + 0.95 * box["height"], steps=5)
        mouse.up()
        self.clicks[self.step] += 1


def test_newcomer_finds_a_scratch_labels_three_tiles_and_draws_a_region(terminal: Terminal, browser: Any) -> None:
    """From the link on the terminal, in at most twelve clicks; the pictures are there within 30 s of the start."""
    started = time.monotonic()
    link = until(lambda: LINK.search(terminal.text), START_S, "the link on the terminal")[1]
    page = browser.new_page(viewport=DESK)
    page.set_default_timeout(PATIENCE_MS)
    hand = Hand(page)

    hand.step = "open the link"
    page.goto(link)
    hand.clicks[hand.step] += 1
    page.wait_for_selector(".picture-live")
    assert time.monotonic() - started < START_S
    scratches = page.locator(".newest li", has_text="scratches")
    until(lambda: scratches.count() > 0, 40, "a scratch")

    hand.step = "find the last scratch"
    hand.click(scratches.first)
    page.get_by_role("heading", level=1).filter(has_text=re.compile("scratches", re.IGNORECASE)).wait_for()
    until(lambda: page.evaluate(PICTURE), 20, "the picture of the scratch")

    hand.step = "label three tiles"
    hand.click(page.get_by_role("link", name="Label"))
    page.wait_for_selector(".label-key:not(:disabled)")
    for count in range(3):
        until(lambda count=count: page.locator(".label-recent li").count() == count, 20, "the label before")
        page.wait_for_selector(".label-key:not(:disabled)")
        hand.press("Enter" if page.locator(".label-key.guess").count() else "g")
    until(lambda: page.locator(".label-recent li").count() == 3 and not page.locator(".unsent").count(), 20, "labels")

    hand.step = "draw a region"
    hand.click(page.get_by_role("link", name="Calibrate"))
    draw = page.get_by_role("button", name="Draw the region")
    page.wait_for_selector(".calibrate-picture")
    hand.click(draw)
    hand.drag(page.locator(".polygon-editor svg").bounding_box())
    hand.click(page.get_by_role("button", name="Apply", exact=True))
    page.get_by_text("Applied. The daemon uses it.").wait_for()
    (x, y, width, height) = region(terminal)
    assert 0 < x < 100
    assert 0 < y < 60
    assert 600 < width < 800
    assert 300 < height < 400

    words = {step: (hand.clicks[step], hand.keys[step]) for step in hand.clicks}
    sys.stdout.write(f"clicks and keys: {words}\n")
    assert sum(hand.clicks.values()) <= MAX_CLICKS, words
    page.close()
    assert terminal.close() == 0


def region(terminal: Terminal) -> list[int]:
    """The region of the file, as x, y, width, height."""
    stored = yaml.safe_load((terminal.state_dir / "calibration" / "top.yaml").read_text())["roi"]["roi"]
    if not isinstance(stored[0], list):
        return list(stored)
    across, down = zip(*stored, strict=True)
    return [min(across), min(down), max(across) - min(across), max(down) - min(down)]
