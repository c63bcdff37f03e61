"""`defectd run` on a real terminal: defects as they come, the node below them, and every line of the log."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
import yaml
from fakes.ports import free_port

pytestmark = pytest.mark.system

COMMAND = [sys.executable, "-m", "edge.cli"]


@pytest.fixture
def configuration(tmp_path):
    path = tmp_path / "c.yaml"
    content = {
        "node": "line3",
        "state_dir": str(tmp_path / "var"),
        "mqtt": {"broker": f"embedded:{free_port()}"},
        "metrics": {"listen": None},
        "web": {"listen": f"127.0.0.1:{free_port()}"},
        "cameras": [{"name": "top", "source": "strip:?mm_per_px=0.25", "fps": 30}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def read_until(terminal, wanted, seen=b"", timeout_s=40.0):
    """What the terminal shows, as text, until each of these patterns was there."""
    until_s = time.monotonic() + timeout_s
    while True:
        text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen).decode("utf-8", "replace")
        if all(re.search(pattern, text) for pattern in wanted):
            return text
        ready, _, _ = select.select([terminal], [], [], max(0.0, until_s - time.monotonic()))
        assert ready, f"the terminal shows nothing more:\n{text[-3000:]}"
        seen += os.read(terminal, 65_536)


def test_a_terminal_shows_defects_the_node_and_the_log(configuration, tmp_path):
    """The live view, `status` and `snapshot` show one running node; after Ctrl-C the last words are on the terminal."""
    terminal, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    daemon = subprocess.Popen(
        [*COMMAND, "run", "-c", configuration], stdin=child, stdout=child, stderr=child, env=environment
    )
    os.close(child)
    try:
        defect = r"top +(\w|-)+ +(minor|major|critical) +\d\.\d\d +at \d+\.\d\d m"
        text = read_until(terminal, ["✓ inspecting +1 of 1 cameras +broker up", defect, "camera top runs"])
        assert "ms p50" not in text  # the header shows the figures of the periodic report
        status = subprocess.run([*COMMAND, "status", "-c", configuration, "--json"], capture_output=True, check=True)
        assert json.loads(status.stdout)["cameras"][0]["state"] == "running"
        picture = tmp_path / "top.png"
        subprocess.run([*COMMAND, "snapshot", "-c", configuration, "--boxes", "-o", picture], check=True)
        assert picture.read_bytes().startswith(b"\x89PNG")
        daemon.send_signal(signal.SIGINT)
        read_until(terminal, ["every event is delivered"])
        assert daemon.wait(20) == 0
    finally:
        daemon.kill()
        daemon.wait()
        os.close(terminal)


def test_status_without_a_daemon_says_so(configuration):
    """No daemon is an error with a hint, not an empty screen."""
    done = subprocess.run([*COMMAND, "status", "-c", configuration], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Is the daemon running?" in done.stderr
