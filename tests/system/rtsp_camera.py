"""An RTSP camera in its own process, which tests can kill, stop and start again on its port."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from camera_scene import PATIENCE_S

SERVER = Path(__file__).with_name("rtsp_server.py")
SYSTEM_PYTHON = "/usr/bin/python3"


def need(found: object, what: str) -> None:
    """Skip the test if the tool is absent; fail where CI requires the whole suite."""
    if not found and os.environ.get("CI"):
        pytest.fail(f"{what} is missing")
    if not found:
        pytest.skip(f"{what} is missing")


def need_gstreamer() -> None:
    code = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    has = (
        shutil.which(SYSTEM_PYTHON)
        and not subprocess.run([SYSTEM_PYTHON, "-c", code], capture_output=True, check=False).returncode
    )
    need(has, "the GStreamer RTSP server of the distribution")


class RtspServer:
    """The camera of `rtsp_server.py`.  users: what it reads from stdin."""

    def __init__(self, port: int, *arguments: str, users: dict[str, str] | None = None) -> None:
        self.port = port
        self.users = users
        self.url = f"rtsp://127.0.0.1:{port}/cam"
        self.arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [SYSTEM_PYTHON, str(SERVER), str(self.port), *self.arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self.process.stdin
        assert self.process.stdout
        with self.process.stdin as stdin:
            stdin.write(json.dumps(self.users).encode())
        assert self.process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait(PATIENCE_S)
            assert self.process.stdout
            self.process.stdout.close()
            self.process = None

    def signal(self, number: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(number)
