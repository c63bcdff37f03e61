"""The page process fails in every way: it is started again, and nobody waits for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.waiting import until

from edge.delivery.page_life import PageLife, PageSign
from edge.host.clock import SystemClock
from edge.monitoring.page_process import Limits, PageProcess

QUICK = Limits(turn_s=0.01, still_s=0.3, steady_s=9.0, terminate_s=0.5, first_delay_s=0.01, max_delay_s=0.04)
SLEEPER = "import sys, time; sys.stdin.read(); time.sleep(60)"
LINK = "http://127.0.0.1:8480/"


class Scene:
    """A supervisor whose page is a few lines of Python."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.life = PageLife()
        self.started: list[subprocess.Popen[bytes]] = []
        self.links: list[str] = []
        self.code = SLEEPER
        self.page: PageProcess | None = None

    def launch(self, settings: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", self.code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert process.stdin is not None
        with process.stdin as stdin:
            stdin.write(settings.encode())
        self.started.append(process)
        return process

    def start(self, code: str = SLEEPER, limits: Limits = QUICK) -> PageProcess:
        self.code = code
        page = PageProcess(
            lambda: "{}", self.life, self.clock, limits=limits, launch=self.launch, on_link=self.links.append
        )
        self.page = page
        page.start()
        until(lambda: self.started)
        return page

    def sign(self, **changes: str | int | None) -> None:
        fields = {"pid": self.started[-1].pid, "link": LINK, "problem": None, "viewers": 1, **changes}
        self.life.note(PageSign(**fields), self.clock.monotonic_ns())  # type: ignore[arg-type]


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    assert scene.page is None or scene.page.stop(5.0)
    assert all(process.poll() is not None for process in scene.started)
    assert not [thread for thread in threading.enumerate() if thread.name == "web"]


def test_a_page_that_is_killed_is_started_again(scene: Scene) -> None:
    """The status has the reason; the link is announced once, however often it starts."""
    page = scene.start()
    scene.sign()
    until(lambda: page.status.state == "running")
    assert (page.status.link, page.status.viewers, page.status.pid) == (LINK, 1, scene.started[0].pid)
    assert page.take_change()
    assert not page.take_change()
    os.kill(scene.started[0].pid, signal.SIGKILL)
    until(lambda: len(scene.started) == 2)
    assert (page.status.restarts, page.status.link) == (1, None)
    assert page.status.last_error == "its process was killed by signal 9 (SIGKILL)"
    assert page.take_change()
    scene.sign()
    until(lambda: page.status.state == "running")
    assert scene.links == [LINK]


def test_a_page_that_cannot_serve_gives_its_reason(scene: Scene) -> None:
    """A port in use, for example; it is tried again and again."""
    code = "import sys; sys.stdin.read(); print('127.0.0.1:8480: Address already in use'); sys.exit(1)"
    page = scene.start(code)
    until(lambda: page.status.restarts >= 3)
    assert page.status.state == "restarting"
    assert page.status.last_error == "127.0.0.1:8480: Address already in use"


def test_a_page_that_hangs_is_killed(scene: Scene) -> None:
    """No sign of life while the feed can be reached; a sign of another process does not count."""
    page = scene.start("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)")
    scene.life.listens(scene.clock.monotonic_ns())
    scene.sign(pid=1)
    until(lambda: page.status.restarts, what="a restart")
    assert "no sign of life" in str(page.status.last_error)
    assert scene.started[0].poll() == -signal.SIGKILL


def test_without_a_feed_no_sign_is_expected(scene: Scene) -> None:
    """The output that fails is not the fault of the page."""
    page = scene.start()
    passed = threading.Event()
    assert not passed.wait(2 * QUICK.still_s)
    assert page.status.restarts == 0
    assert scene.started[0].poll() is None


def test_a_problem_that_the_page_reports_is_shown(scene: Scene) -> None:
    """It lives and does not serve: there is no link."""
    page = scene.start()
    scene.sign(problem="the certificate has expired")
    until(lambda: page.status.last_error == "the certificate has expired")
    assert (page.status.state, page.status.link) == ("running", None)


def test_a_page_that_grows_is_started_again(scene: Scene) -> None:
    """What leaks is small on a machine that inspects."""
    limits = Limits(turn_s=0.01, first_delay_s=0.01, max_delay_s=0.04, terminate_s=0.5, max_memory_mb=40)
    page = scene.start("import time; held = bytearray(b'x' * (80 << 20)); time.sleep(60)", limits)
    until(lambda: page.status.restarts)
    assert "it may hold 40" in str(page.status.last_error)


@pytest.mark.parametrize("launch", [OSError("no memory"), ValueError("no settings")])
def test_a_page_that_cannot_be_started_is_tried_again(scene: Scene, launch: Exception) -> None:
    """Whatever stands in the way."""
    tries: list[str] = []

    def fail(settings: str) -> subprocess.Popen[bytes]:
        tries.append(settings)
        raise launch

    page = PageProcess(lambda: "{}", scene.life, scene.clock, limits=QUICK, launch=fail)
    page.start()
    until(lambda: len(tries) >= 2)
    assert page.stop(1.0)
    assert str(launch) in str(page.status.last_error)


def test_a_stop_ends_a_page_that_ignores_it(scene: Scene) -> None:
    """Within its limit; no descriptor stays open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    page = scene.start("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)")
    page.ask_stop()
    assert page.stop(3.0)
    assert scene.started[0].poll() is not None
    assert len(list(Path("/proc/self/fd").iterdir())) == before
