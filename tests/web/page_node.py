"""A real daemon with its page, for tests in a browser: a generated strip and a broker of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from fakes.ports import free_port
from fakes.waiting import until
from node import Node

PATIENCE_S = 40.0
CAMERA = {
    "name": "top",
    "source": "strip:?mm_per_px=0.25&seed=3",
    "fps": 10,
    "budget_ms": 2000,
    "surface": "top",
    "operator_side": "top",
    "across_at_mm": 0,
}
GRADING = [
    {
        "product": "sheet",
        "coils": ["*"],
        "severity": [
            {"classes": ["scratches"], "min_length_mm": 40, "severity": "major"},
            {"classes": ["pitted_surface"], "min_length_mm": 50, "severity": "critical"},
        ],
        "grades": [{"grade": "A", "critical": 0, "major_in_100m": 4}, {"grade": "B", "critical": 5}],
    }
]


class PageNode(Node):
    """Written to a folder; `start`, then `wait`."""

    def __init__(self, folder: Path, cameras: list[dict[str, Any]] | None = None, **more: Any) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        settings = {
            "report_s": 10,
            "mqtt": {"broker": f"embedded:{free_port()}"},
            "metrics": {"listen": None},
            "web": {"listen": f"127.0.0.1:{self.port}"},
            "state_dir": str(folder / "var"),
            "grading": GRADING,
            **more,
        }
        super().__init__(folder, 0, cameras or [CAMERA], **settings)

    @property
    def state_dir(self) -> Path:
        return self.folder / "var"

    def defectd(self, *words: str) -> str:
        """Run a command on this node.  Returns what it prints."""
        command = [sys.executable, "-m", "edge.cli", *words, "-c", str(self.config)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def link(self) -> str:
        """A fresh link that opens the page with the rights of an engineer."""
        return self.defectd("web", "link").strip()

    def get(self, path: str) -> Any:
        """What the API answers to anybody on this machine; None while it is not served."""
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1{path}", timeout=5) as answer:
                return json.load(answer)
        except OSError:
            return None

    def wait(self, **counts: int) -> PageNode:
        """Until the page is served and every camera is inspected.  counts: of defects of each severity, at least."""
        until(lambda: self._is_running(counts), PATIENCE_S, f"the page of {self.folder}")
        return self

    def _is_running(self, counts: dict[str, int]) -> bool:
        state = self.get("/state")
        if not state or not state["cameras"] or any(camera["state"] != "running" for camera in state["cameras"]):
            return False
        found = state["strip"]["defects"]
        return all(found[name] >= count for name, count in counts.items())

    def kill_page(self) -> None:
        os.kill(self.page_process(), signal.SIGKILL)


def private_mb(pid: int) -> float:
    """Memory that this process shares with nobody, MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty"))) / 1024


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
