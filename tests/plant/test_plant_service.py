"""The installed unit under a real systemd: its files, and its restarts when something dies."""

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
    """A broker outside the machine, which accepts anonymous listeners, and the node with its password only."""
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
    """One machine for all tests of this file, on which the script installed defectd."""
    here = CACHE / "service"
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir(parents=True)
    bundle(ROOT, here / "bundle")
    with Machine(CACHE / "box-service", {"/checkout": ROOT, "/site": here}) as machine:
        write(machine, configuration(broker))
        machine.must("sh", "-c", "umask 077 && echo right > /etc/defectd/mqtt-password")
        machine.must("/site/bundle/install.sh")
        yield machine
    shutil.rmtree(here)


@pytest.fixture
def machine(installed: Machine, broker: Mosquitto) -> Machine:
    """The machine in its state after the install."""
    write(installed, configuration(broker))
    installed.must("rm", "-f", DROP_IN)
    restart(installed)
    return installed


def configuration(broker: Mosquitto, **changed: Any) -> dict[str, Any]:
    mqtt = {"broker": broker.url, "username": "line3", "password_file": "credential:mqtt-password"}
    fixed = {"node": "line3", "state_dir": "/var/lib/defectd", "report_s": 1.0}
    return {**fixed, "mqtt": mqtt, "cameras": [CAMERA], **changed}


def write(machine: Machine, content: dict[str, Any]) -> None:
    path = machine.path("/etc/defectd/config.yaml")
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content))


def restart(machine: Machine, *service: str) -> None:
    """Restart the unit.  service: further lines of its [Service] section."""
    if service:
        path = machine.path(DROP_IN)
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(["[Service]", *service]) + "\n")
    machine.must("systemctl", "daemon-reload")
    machine.run("systemctl", "reset-failed", "defectd")
    machine.must("systemctl", "restart", "defectd")


def restarts(machine: Machine) -> int:
    return int(machine.show("NRestarts"))


def is_running_again(machine: Machine, before: str) -> bool:
    return machine.show("ActiveState") == "active" and machine.show("MainPID") not in ("0", before)


@contextmanager
def listening(broker: Mosquitto) -> Iterator[Subscriber]:
    with subscriber(broker.port, client_id=f"scada-{time.monotonic_ns()}") as client:
        yield client


def gapless(client: Subscriber) -> list[dict[str, Any]]:
    events = client.events()
    seqs = [event["seq"] for event in events]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs))), seqs
    return events


def test_unit_is_ready_and_publishes_events_as_an_ordinary_user(machine, broker):
    """The unit reads its credential, writes its state, sends events to a broker outside, and shows a status line."""
    with listening(broker) as client:
        until(lambda: machine.show("StatusText").startswith("1 of 1 cameras run"), 20, "the status line")
        until(lambda: "broker up" in machine.show("StatusText"), 20, "the broker")
        until(lambda: client.events("defect.opened"), 30, "a defect")
        gapless(client)
    assert machine.show("Type") == "notify"
    assert "u'line3'" in broker.log.read_text()
    pid = machine.show("MainPID")
    assert machine.must("stat", "-c", "%U", f"/proc/{pid}").strip() == "defectd"
    assert machine.must("stat", "-c", "%U %a", "/var/lib/defectd", "/var/lib/defectd/outbox.db").split() == [
        "defectd", "700", "defectd", "600",
    ]  # fmt: skip
    assert machine.must("stat", "-c", "%U %a", "/etc/defectd/mqtt-password").split() == ["root", "600"]
    assert machine.run("systemd-analyze", "security", "--no-pager", "--threshold=17", "defectd").returncode == 0
    status = machine.must("systemctl", "status", "--no-pager", "defectd")
    assert 'Status: "1 of 1 cameras run' in status
    assert "no effect" not in machine.journal()


def test_wrong_credential_is_reported_and_inspection_goes_on(machine, broker):
    """The password comes from the credential alone: the log reports a wrong one, and the node inspects on."""
    machine.path("/etc/defectd/mqtt-password").write_text("wrong\n")
    try:
        restart(machine)
        until(lambda: "check mqtt.username and the password" in machine.journal()[-5000:], 20, "the refusal")
        until(lambda: "1 of 1 cameras run" in machine.show("StatusText"), 20, "the inspection")
        assert "broker AWAY" in machine.show("StatusText")
    finally:
        machine.path("/etc/defectd/mqtt-password").write_text("right\n")


def test_reload_keeps_the_process(machine):
    """The unit is active again when `systemctl reload` returns, and its process is the same."""
    pid = machine.show("MainPID")
    machine.must("systemctl", "reload", "defectd")
    until(lambda: machine.show("ActiveState") == "active", 10, "the end of the reload")
    assert machine.show("MainPID") == pid


def test_systemd_restarts_a_killed_daemon(machine, broker):
    """Daemon and camera are back within seconds of kill -9, and no event is missing."""
    with listening(broker) as client:
        until(lambda: client.events("defect.opened"), 30, "a defect")
        pid = machine.show("MainPID")
        machine.must("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "defectd")
        until(lambda: is_running_again(machine, pid), 30, "a new process")
        seen = len(client.events("defect.opened"))
        until(lambda: len(client.events("defect.opened")) > seen, 30, "a defect after the restart")
        gapless(client)
    assert restarts(machine) == 1


@pytest.mark.parametrize("loop", ["inspection", "recorder", "publisher", "cameras"])
def test_systemd_restarts_a_daemon_with_a_loop_that_hangs(loop, machine):
    """systemd's watchdog ends the process, the journal names the loop, and a new process works."""
    restart(
        machine,
        "ExecStart=",
        "ExecStart=/opt/defectd/current/bin/python /checkout/tests/plant/stuck.py run -c /etc/defectd/config.yaml",
        "Environment=DEFECTD_STUCK=/run/defectd/order",
        "WatchdogSec=6",
        "RestartSec=1",
    )
    until(lambda: "1 of 1 cameras run" in machine.show("StatusText"), 20, "a running camera")
    pid = machine.show("MainPID")
    # systemd removes the runtime directory with the process: the order does not reach the next one.
    machine.must("sh", "-c", f"echo {loop} > /run/defectd/order")
    until(lambda: is_running_again(machine, pid), 40, f"a new process\n{machine.journal()[-3000:]}")
    assert restarts(machine) == 1
    journal = machine.journal()
    assert f"the thread {loop} has not moved" in journal
    assert "Failed with result 'watchdog'" in machine.must("journalctl", "--no-pager", "--output=cat", "--lines=300")
    until(lambda: "1 of 1 cameras run" in machine.show("StatusText"), 20, "a running camera after the restart")


def test_dead_cameras_and_a_dead_broker_restart_nothing(machine, broker):
    """The same process runs for two watchdog periods without camera and broker, and its status shows both."""
    dead = [{"name": "gone", "source": "rtsp://127.0.0.1:9/x", "open_timeout_s": 1}, {"name": "no", "source": "7"}]
    write(machine, configuration(broker, cameras=dead, mqtt={"broker": "mqtt://127.0.0.1:9"}))
    restart(machine, "WatchdogSec=6")
    pid, start = machine.show("MainPID"), time.monotonic()
    until(lambda: time.monotonic() - start > 13, 30, "two periods")
    assert (machine.show("MainPID"), restarts(machine), machine.show("ActiveState")) == (pid, 0, "active")
    assert machine.show("StatusText").startswith("0 of 2 cameras run (gone no_signal, no no_signal)")
    assert "broker AWAY" in machine.show("StatusText")


def test_unit_with_an_invalid_configuration_stays_down_and_logs_why(machine, broker):
    """systemd does not restart after exit 78, and the journal names key, value and remedy."""
    write(machine, configuration(broker, report_s="soon"))
    assert machine.run("systemctl", "restart", "defectd").returncode != 0
    start = time.monotonic()
    until(lambda: time.monotonic() - start > 7, 30, "longer than RestartSec")
    assert (machine.show("ActiveState"), machine.show("ExecMainStatus"), restarts(machine)) == ("failed", "78", 0)
    assert "report_s: 'soon'" in machine.journal()


def test_memory_limit_hit_by_a_camera_ends_only_that_camera(machine, broker):
    """The kernel kills a camera process that leaks up to the unit's limit; the daemon reports and restarts it."""
    restart(machine, "MemoryMax=400M", "MemorySwapMax=0", "Environment=PYTHONPATH=/checkout/tests/plant/leak")
    with listening(broker) as client:
        until(lambda: "1 of 1 cameras run" in machine.show("StatusText"), 20, "a running camera")
        pid = machine.show("MainPID")
        groups = Path(f"/proc/{_outside(machine)}/cgroup").read_text()
        machine.must("touch", "/run/defectd/leak")
        lost = until(lambda: client.events("camera.lost"), 60, f"the loss of the camera\n{groups}")
        until(lambda: client.events("camera.restored"), 30, "its return")
        assert "SIGKILL" in lost[0]["detail"]["reason"]
    assert (machine.show("MainPID"), restarts(machine), machine.show("ActiveState")) == (pid, 0, "active")


def _outside(machine: Machine) -> int:
    """The process id of the daemon as this machine sees it."""
    for status in Path("/proc").glob("[0-9]*/status"):
        words = status.read_text().splitlines()
        ids = next((line.split()[1:] for line in words if line.startswith("NSpid:")), [])
        if len(ids) > 1 and ids[-1] == machine.show("MainPID"):
            return int(ids[0])
    return os.getpid()
