"""The installed unit under a real systemd: what it reads and writes, and what becomes of it when something dies."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from machine import CACHE, ROOT, Machine, need_nspawn
from mosquitto import Mosquitto, need_mosquitto
from node import Subscriber, subscriber, until
from releases import bundle

pytestmark = pytest.mark.plant
DROP_IN = "/etc/systemd/system/defectd.service.d/test.conf"
CAMERA = {"name": "top", "source": "strip:?seed=3", "fps": 15, "budget_ms": 2000, "max_memory_mb": 4000}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """Outside the machine; it takes anonymous listeners, and the node with its password only."""
    need_nspawn()
    need_mosquitto()
    folder = tmp_path_factory.mktemp("broker")
    passwd = folder / "passwd"
    passwd.write_text("")
    passwd.chmod(0o600)

    subprocess.run(["mosquitto_passwd", "-b", str(passwd), "line3", "right"], check=True, capture_output=True)
    running = Mosquitto(folder, f"password_file {passwd}").start()
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def installed(broker: Mosquitto) -> Iterator[Machine]:
    """One machine with defectd installed by its script, for all tests of this file."""
    here = CACHE / "service"
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir(parents=True)
    bundle(ROOT, here / "bundle")
    with Machine(CACHE / "box-service", {"/checkout": ROOT, "/site": here}) as box:
        write(box, configuration(broker))
        box.must("sh", "-c", "umask 077 && echo right > /etc/defectd/mqtt-password")
        box.must("/site/bundle/install.sh")
        yield box
    shutil.rmtree(here)


@pytest.fixture
def box(installed: Machine, broker: Mosquitto) -> Machine:
    """As it was after the install, whatever the test before has left."""
    write(installed, configuration(broker))
    installed.must("rm", "-f", DROP_IN)
    restart(installed)
    return installed


def configuration(broker: Mosquitto, **changed: Any) -> dict[str, Any]:
    mqtt = {"broker": broker.url, "username": "line3", "password_file": "credential:mqtt-password"}
    fixed = {"node": "line3", "state_dir": "/var/lib/defectd", "report_s": 1.0}
    return {**fixed, "mqtt": mqtt, "cameras": [CAMERA], **changed}


def write(box: Machine, content: dict[str, Any]) -> None:
    path = box.path("/etc/defectd/config.yaml")
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content))


def restart(box: Machine, *service: str) -> None:
    """Start anew, with more lines for the unit."""
    if service:
        path = box.path(DROP_IN)
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(["[Service]", *service]) + "\n")
    box.must("systemctl", "daemon-reload")
    box.run("systemctl", "reset-failed", "defectd")
    box.must("systemctl", "restart", "defectd")


def restarts(box: Machine) -> int:
    return int(box.show("NRestarts"))


def is_running_again(box: Machine, before: str) -> bool:
    return box.show("ActiveState") == "active" and box.show("MainPID") not in ("0", before)


@contextmanager
def listening(broker: Mosquitto) -> Iterator[Subscriber]:
    with subscriber(broker.port, client_id=f"scada-{time.monotonic_ns()}") as client:
        yield client


def gapless(client: Subscriber) -> list[dict[str, Any]]:
    events = client.events()
    seqs = [event["seq"] for event in events]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs))), seqs
    return events


def test_unit_is_ready_and_does_its_work(box, broker):
    """Ready, a status line that helps, events at a broker outside, the credential read, state written, not as root."""
    with listening(broker) as client:
        until(lambda: box.show("StatusText").startswith("1 of 1 cameras run"), 20, "the status line")
        until(lambda: "broker up" in box.show("StatusText"), 20, "the broker")
        until(lambda: client.events("defect.opened"), 30, "a defect")
        gapless(client)
    assert box.show("Type") == "notify"
    assert "u'line3'" in broker.log.read_text()
    pid = box.show("MainPID")
    assert box.must("stat", "-c", "%U", f"/proc/{pid}").strip() == "defectd"
    assert box.must("stat", "-c", "%U %a", "/var/lib/defectd", "/var/lib/defectd/outbox.db").split() == [
        "defectd", "700", "defectd", "600",
    ]  # fmt: skip
    assert box.must("stat", "-c", "%U %a", "/etc/defectd/mqtt-password").split() == ["root", "600"]
    assert box.run("systemd-analyze", "security", "--no-pager", "--threshold=17", "defectd").returncode == 0
    status = box.must("systemctl", "status", "--no-pager", "defectd")
    assert 'Status: "1 of 1 cameras run' in status
    assert "no effect" not in box.journal()


def test_wrong_credential_is_refused_by_the_broker_and_stops_nothing(box, broker):
    """The password comes from the credential and from nowhere else: a wrong one is told, and the node inspects on."""
    box.path("/etc/defectd/mqtt-password").write_text("wrong\n")
    try:
        restart(box)
        until(lambda: "check mqtt.username and the password" in box.journal()[-5000:], 20, "the refusal")
        until(lambda: "1 of 1 cameras run" in box.show("StatusText"), 20, "the inspection")
        assert "broker AWAY" in box.show("StatusText")
    finally:
        box.path("/etc/defectd/mqtt-password").write_text("right\n")


def test_reload_keeps_the_process(box):
    """systemctl reload: the unit is active again when it returns, and its process is the same."""
    pid = box.show("MainPID")
    box.must("systemctl", "reload", "defectd")
    until(lambda: box.show("ActiveState") == "active", 10, "the end of the reload")
    assert box.show("MainPID") == pid


def test_kill_9_is_answered_by_a_restart(box, broker):
    """The daemon is killed by force: back within seconds, its camera with it, and no event is missing."""
    with listening(broker) as client:
        until(lambda: client.events("defect.opened"), 30, "a defect")
        pid = box.show("MainPID")
        box.must("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "defectd")
        until(lambda: is_running_again(box, pid), 30, "a new process")
        seen = len(client.events("defect.opened"))
        until(lambda: len(client.events("defect.opened")) > seen, 30, "a defect after the restart")
        gapless(client)
    assert restarts(box) == 1


@pytest.mark.parametrize("loop", ["inspection", "recorder", "publisher", "cameras"])
def test_loop_that_hangs_is_answered_by_a_restart(loop, box):
    """Each loop in turn: systemd's watchdog ends the process, the journal names the loop, a new one works."""
    restart(
        box,
        "ExecStart=",
        "ExecStart=/opt/defectd/current/bin/python /checkout/tests/plant/stuck.py run -c /etc/defectd/config.yaml",
        "Environment=DEFECTD_STUCK=/run/defectd/order",
        "WatchdogSec=6",
        "RestartSec=1",
    )
    until(lambda: "1 of 1 cameras run" in box.show("StatusText"), 20, "a running camera")
    pid = box.show("MainPID")
    # The runtime directory goes with the process: the next one has no such order.
    box.must("sh", "-c", f"echo {loop} > /run/defectd/order")
    until(lambda: is_running_again(box, pid), 40, f"a new process\n{box.journal()[-3000:]}")
    assert restarts(box) == 1
    journal = box.journal()
    assert f"the thread {loop} has not moved" in journal
    assert "Failed with result 'watchdog'" in box.must("journalctl", "--no-pager", "--output=cat", "--lines=300")
    until(lambda: "1 of 1 cameras run" in box.show("StatusText"), 20, "a running camera after the restart")


def test_dead_cameras_and_a_dead_broker_restart_nothing(box, broker):
    """Two watchdog periods without a camera and without the broker: the same process, and it says so."""
    dead = [{"name": "gone", "source": "rtsp://127.0.0.1:9/x", "open_timeout_s": 1}, {"name": "no", "source": "7"}]
    write(box, configuration(broker, cameras=dead, mqtt={"broker": "mqtt://127.0.0.1:9"}))
    restart(box, "WatchdogSec=6")
    pid, began = box.show("MainPID"), time.monotonic()
    until(lambda: time.monotonic() - began > 13, 30, "two periods")
    assert (box.show("MainPID"), restarts(box), box.show("ActiveState")) == (pid, 0, "active")
    assert box.show("StatusText").startswith("0 of 2 cameras run (gone no_signal, no no_signal)")
    assert "broker AWAY" in box.show("StatusText")


def test_bad_configuration_stays_down_and_says_why(box, broker):
    """Exit 78: failed, not restarted, and the journal names key, value and remedy."""
    write(box, configuration(broker, report_s="soon"))
    assert box.run("systemctl", "restart", "defectd").returncode != 0
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 7, 30, "longer than RestartSec")
    assert (box.show("ActiveState"), box.show("ExecMainStatus"), restarts(box)) == ("failed", "78", 0)
    assert "report_s: 'soon'" in box.journal()


def test_memory_limit_hit_by_a_camera_ends_only_that_camera(box, broker):
    """A camera that leaks up to the unit's limit is killed by the kernel, told, and back; the daemon stays."""
    restart(box, "MemoryMax=400M", "MemorySwapMax=0", "Environment=PYTHONPATH=/checkout/tests/plant/leak")
    with listening(broker) as client:
        until(lambda: "1 of 1 cameras run" in box.show("StatusText"), 20, "a running camera")
        pid = box.show("MainPID")
        groups = Path(f"/proc/{_outside(box)}/cgroup").read_text()
        box.must("touch", "/run/defectd/leak")
        lost = until(lambda: client.events("camera.lost"), 60, f"the loss of the camera\n{groups}")
        until(lambda: client.events("camera.restored"), 30, "its return")
        assert "SIGKILL" in lost[0]["detail"]["reason"]
    assert (box.show("MainPID"), restarts(box), box.show("ActiveState")) == (pid, 0, "active")


def _outside(box: Machine) -> int:
    """The daemon's process id on this machine."""
    for status in Path("/proc").glob("[0-9]*/status"):
        words = status.read_text().splitlines()
        ids = next((line.split()[1:] for line in words if line.startswith("NSpid:")), [])
        if len(ids) > 1 and ids[-1] == box.show("MainPID"):
            return int(ids[0])
    return os.getpid()
