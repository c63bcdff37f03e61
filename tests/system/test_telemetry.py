"""onnxruntime has telemetry, which is on by default. No command of defectd lets it write a file or look up a name."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import cv2
import pytest
import textures
import yaml
from fakes.ports import free_port
from fakes.waiting import until
from programs import needs_program

from edge.camera.sources.simulator import Strip
from edge.model import bundle

pytestmark = pytest.mark.system

OUTSIDE = re.compile(r'sin6?_port=htons\(53\)|inet_addr\("(?!127\.|0\.)|inet_pton\(AF_INET6, "(?!::)')
"""A system call that looks up a name, or that has the address of another machine."""
OBSERVED_S = 8.0
"""Time that `defectd run` inspects under observation: with telemetry, the first look-up came 6 s after the import."""


class Traced:
    """A command under strace with a home folder of its own."""

    def __init__(self, folder: Path, *command: str) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.trace = folder / "trace.txt"
        self.output = folder / "output.txt"
        strace = needs_program("strace", "strace")
        calls = "trace=connect,sendto,sendmsg,sendmmsg"
        environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [strace, "-f", "-qq", "-s", "200", "-o", str(self.trace), "-e", calls, sys.executable, *command],
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={
                    **environment,
                    "HOME": str(self.home),
                    "XDG_CACHE_HOME": str(self.home / "cache"),
                    "MPLCONFIGDIR": str(folder / "matplotlib"),  # matplotlib caches its list of fonts
                },
            )

    def finished(self, timeout_s: float = 120) -> None:
        """Wait for the command, which has to succeed."""
        try:
            assert self.process.wait(timeout_s) == 0, self.output.read_text(errors="replace")
        finally:
            self.end()

    def stop(self) -> None:
        """SIGTERM for the command, not for strace, and wait for both."""
        assert self.process.poll() is None, self.output.read_text(errors="replace")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        self.finished(20)

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def left(self) -> tuple[list[str], list[str]]:
        """Files in the home folder, and system calls that concern another machine."""
        files = sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*") if path.is_file())
        return files, [line for line in self.trace.read_text().splitlines() if OUTSIDE.search(line)]


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    """A configuration with a generated strip, and a broker on this machine that is away."""
    path = tmp_path / "c.yaml"
    content = {
        "node": "line3",
        "state_dir": str(tmp_path / "var"),
        "mqtt": {"broker": f"mqtt://127.0.0.1:{free_port()}"},
        "cameras": [{"name": "top", "source": "strip:"}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    strip = Strip(seed=1)
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), strip.frame(number))
    return folder


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """The few pictures of each class of the shipped model that the trainer asks for."""
    pictures = tmp_path / "labelled"
    for name in bundle.load("builtin").card.classes:
        for seed, split in enumerate(("train", "train", "train", "valid", "test")):
            folder = pictures / split / name
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{name}_{seed}.png"), textures.picture(name, seed))
    return pictures


@pytest.mark.parametrize(
    "command",
    [
        ("edge.cli", "inspect", "{frames}"),
        ("edge.cli", "bench", "--calls", "10"),
        ("edge.cli", "check", "-c", "{config}"),
        ("edge.cli", "calibrate", "latency", "-c", "{config}", "--rounds", "20", "--no-hold"),
        ("edge.cli", "model", "verify"),
        ("trainer.cli", "evaluate", "--bundle", "builtin", "--data", "{labelled}"),
    ],
    ids=lambda command: " ".join(word for word in command if "{" not in word),
)
def test_command_writes_no_file_and_looks_up_no_name(
    tmp_path: Path, configured: Path, frames: Path, labelled: Path, command: tuple[str, ...]
) -> None:
    """Each command that loads the network leaves an empty home folder, and contacts no other machine."""
    words = [word.format(config=configured, frames=frames, labelled=labelled) for word in command]
    traced = Traced(tmp_path, "-m", *words)
    traced.finished()
    assert traced.left() == ([], [])


def test_running_node_writes_no_file_and_looks_up_no_name(tmp_path: Path, configured: Path) -> None:
    """A daemon that inspects for some seconds leaves an empty home folder, and contacts no other machine."""
    traced = Traced(tmp_path, "-m", "edge.cli", "run", "-c", str(configured))
    try:
        until(lambda: "running" in traced.output.read_text(errors="replace"), 30, "the node inspects")
        with suppress(subprocess.TimeoutExpired):
            traced.process.wait(OBSERVED_S)
        traced.stop()
    finally:
        traced.end()
    assert traced.left() == ([], [])
