"""The slide show of `slide_server.py` as a child process of a test."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import Self

import pytest

PYTHON = "/usr/bin/python3"
SCRIPT = Path(__file__).with_name("slide_server.py")


def _is_there() -> bool:
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    command = [PYTHON, "-c", probe]
    return Path(PYTHON).exists() and subprocess.run(command, check=False, capture_output=True).returncode == 0


needs_gstreamer = pytest.mark.skipif(
    not os.environ.get("CI") and not _is_there(), reason="GStreamer's RTSP server is not installed: see .ci/run"
)


class SlideShow:
    """Serves a folder of numbered PNG files, each for `show_s`."""

    def __init__(self, folder: Path, show_s: float, fps: int = 12) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._command = [PYTHON, str(SCRIPT), str(self.port), str(folder), str(round(show_s * 1000)), str(fps)]

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/cam"

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", "the slide show did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(5)
        assert self._process.stdout is not None
        self._process.stdout.close()
