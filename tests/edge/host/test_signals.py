"""Signals never lock up the main thread, wherever they interrupt it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fakes.clock import FakeClock

from edge.host.clock import SystemClock
from edge.host.signals import IMPATIENCE_S, Signals

ROOT = Path(__file__).resolve().parents[3]
LOCK_UP_S = 20.0
"""A child that does not end within this time is locked up; it prints where."""

INTERRUPTED = """
import faulthandler, random, signal, sys
from edge.host.clock import SystemClock
from edge.host.signals import Signals

seed, count = int(sys.argv[1]), int(sys.argv[2])
faulthandler.dump_traceback_later(float(sys.argv[3]), exit=True)
chance = random.Random(seed)
sent = 0

def at_each_line(frame, what, _argument):
    # Python runs a handler between two instructions: a signal sent here interrupts exactly this line.
    global sent
    if sent < count and chance.random() < 0.2:
        sent += 1
        signal.raise_signal(signal.SIGHUP)
    return at_each_line

reloads = 0
with Signals(SystemClock()) as signals:
    sys.settrace(at_each_line)
    while not signals.wants_stop:
        reloads += signals.take_reload()
        signals.wait(0.0005)
        if sent >= count:
            signal.raise_signal(signal.SIGTERM)
    sys.settrace(None)
print(sent, reloads)
"""
"""The daemon's loop over its signals, with a signal at random lines of everything it calls."""


def interrupted(seed: int, count: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", INTERRUPTED, str(seed), str(count), str(LOCK_UP_S)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_signal_at_any_line_of_the_loop_locks_nothing() -> None:
    """500 signals between random instructions; the seed changes with each run."""
    seed = random.randrange(1 << 32)
    done = interrupted(seed, 500)
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    sent, reloads = map(int, done.stdout.split())
    assert sent == 500
    assert reloads > 10


@pytest.mark.soak
def test_five_thousand_signals_at_random_lines_lock_nothing() -> None:
    """Ten seeds of 5,000 signals each."""
    for seed in range(10):
        done = interrupted(seed, 5000)
        assert done.returncode == 0, f"seed {seed}: {done.stderr}"


def test_request_between_two_waits_ends_the_next_wait() -> None:
    """Nothing is missed between the check of a flag and the wait."""
    with Signals(SystemClock()) as signals:
        signal.raise_signal(signal.SIGHUP)
        signals.wait(60.0)
        assert signals.take_reload()
        assert not signals.take_reload()
        assert not signals.wants_stop
        threading.Thread(target=signals.ask_stop).start()
        signals.wait(60.0)
        assert signals.wants_stop


AT_A_TERMINAL = """
import fcntl, os, signal, sys, termios
from edge.host.clock import SystemClock
from edge.host.signals import Signals

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
with Signals(SystemClock()) as signals:
    os.kill(os.getpid(), signal.SIGHUP)
    signals.wait(60.0)
    print(signals.take_reload(), signals.wants_stop, flush=True)
    while not signals.wants_stop:
        signals.wait(60.0)
"""


def test_a_closed_terminal_stops_and_an_open_one_reloads() -> None:
    """Otherwise the daemon would go on without a terminal, and the next start would be refused."""
    terminal, child = os.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL],
        stdin=child,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as process:
        os.close(child)
        assert process.stdout is not None
        assert process.stdout.readline() == b"True False\n"
        os.close(terminal)
        assert process.wait(LOCK_UP_S) == 0


def test_stop_asked_for_before_the_start_is_kept() -> None:
    """`ask_stop` works before the handlers are set, and after they are gone."""
    signals = Signals(SystemClock())
    signals.ask_stop()
    with signals:
        signals.wait(60.0)
        assert signals.wants_stop
    signals.ask_stop()


def test_second_signal_to_stop_ends_the_process_only_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """`timeout` signals the process and its group: the same request twice. A person who presses Ctrl-C again waited."""
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    clock = FakeClock()
    with Signals(clock) as signals:
        signal.raise_signal(signal.SIGTERM)
        first_ns = signals.stop_ns
        clock.advance(IMPATIENCE_S / 2)
        signal.raise_signal(signal.SIGINT)
        assert exits == []
        clock.advance(IMPATIENCE_S)
        signal.raise_signal(signal.SIGINT)
    assert exits == [1]
    assert first_ns is not None
    assert signals.stop_ns == first_ns


def test_handlers_are_those_from_before_afterwards() -> None:
    """Also the descriptor that signals are written to."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    with Signals(SystemClock()):
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before
    assert signal.set_wakeup_fd(-1) == -1
