"""Reports to systemd, against sockets that play systemd, and the status line."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.delivery.mqtt.publisher import Snapshot
from edge.host.systemd import Service
from edge.monitoring.status_line import status_line
from edge.pipeline.histogram import Summary
from edge.pipeline.reporting import Report


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """The address in the form of systemd, and its socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(5)
        if request.param == "path":
            address = str(tmp_path / "notify")
            receiver.bind(address)
        else:
            name = f"defectd-test-{secrets.token_hex(6)}"
            address = f"@{name}"
            receiver.bind(f"\0{name}")
        yield address, receiver


def test_every_report_is_one_that_systemd_knows(systemd):
    """READY, WATCHDOG, STATUS, RELOADING and STOPPING are one datagram each, over either kind of socket."""
    address, receiver = systemd
    service = Service(address)
    reports = [
        (service.ready, b"READY=1"),
        (service.alive, b"WATCHDOG=1"),
        (service.stuck, b"WATCHDOG=trigger"),
        (lambda: service.status("two\ncameras   run"), b"STATUS=two cameras run"),
        (lambda: service.reloading(5_000_123_456_789), b"RELOADING=1\nMONOTONIC_USEC=5000123456"),
    ]
    for send, datagram in reports:
        assert send()
        assert receiver.recv(4096) == datagram
    assert service.stopping()
    assert receiver.recv(4096).split(b"\n")[0] == b"STOPPING=1"


def test_environment_is_read_once_and_kept_from_children(systemd):
    """The socket and the watchdog's period come from systemd's variables, which no camera process inherits."""
    address, receiver = systemd
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    service = Service.from_environment(environ)
    assert environ == {"HOME": "/"}
    assert service.watchdog_s == 30.0
    assert service.ready()
    assert receiver.recv(4096) == b"READY=1"


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
        {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "30000000"},
    ],
)
def test_watchdog_of_another_process_is_not_fed(environ):
    """A period of another process, an invalid or a missing one means that there is no watchdog."""
    assert Service.from_environment(environ).watchdog_s is None


def test_reports_without_systemd_are_dropped_silently(tmp_path):
    """Nothing is raised without an address and after the socket was removed."""
    for service in (Service(), Service(str(tmp_path / "gone")), Service("@defectd-unused"), Service("vsock:2:99")):
        assert not any((service.ready(), service.alive(), service.status("x"), service.stuck(), service.stopping()))


def report(camera: str, state: str, fps: float, p99_ms: float, n: int = 100) -> Report:
    return Report(camera, state, fps, Summary(n, 1.0, 2.0, p99_ms, p99_ms, p99_ms), {}, {}, 0)


def snapshot(*, connected: bool, depth: int) -> Snapshot:
    return Snapshot(connected, 0, "5", 1, 0, 0, 0, 0, 0, depth, None, None)


def test_status_line_sums_up_cameras_and_delivery():
    """Cameras with those that do not run, frames per second, the worst p99, what waits, and the broker."""
    reports = [report("top", "running", 29.96, 5.42), report("back", "no_signal", 0.0, 0.0, n=0)]
    assert status_line(reports, snapshot(connected=True, depth=0), 0) == (
        "1 of 2 cameras run (back no_signal); 30.0 fps; p99 5.4 ms; 0 events wait; broker up"
    )
    assert status_line(reports[1:], snapshot(connected=False, depth=17), 42_000_000_000) == (
        "0 of 1 cameras run (back no_signal); 0.0 fps; no verdict yet; 17 events wait; broker AWAY for 42 s"
    )
