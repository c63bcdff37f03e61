"""A real daemon in its own process, and a real subscriber, for the system tests."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

import paho.mqtt.client as paho
import pytest
import yaml
from fakes.waiting import until
from paho.mqtt.enums import CallbackAPIVersion

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


SEVERSTAL = {
    "frames-unlabelled/1d32009ed": ("right", 182),
    "frames-unlabelled/1dd8107e9": ("right", 1493),
    "frames-unlabelled/1f6915575": ("right", 968),
    "frames-unlabelled/1fd098a38": ("left", 663),
    "frames/0c6720401": ("right", 1500),
    "frames/0d17b6b4f": ("left", 1278),
    "frames/0e1925eb6": ("right", 703),
    "frames/0fb56c62d": ("right", 1533),
}
"""Where a person sees the edge at half height, px from the left. No other frame shows one."""


def needs_data(part: str) -> Path:
    """The folder of real images; without it the test is skipped with the reason."""
    folder = DATA / part
    if not folder.exists():
        pytest.skip(f"the real images are not here: shared/data/{part}")
    return folder


def _command(pid: int) -> bytes:
    """The command line of a process; empty when it has just ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


class Node:
    """`defectd run` with a configuration written for the test."""

    def __init__(self, folder: Path, port: int, cameras: list[dict[str, Any]], **more: Any) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "config.yaml"
        content = {
            "node": "line3",
            "report_s": 0.5,
            "log": {"format": "plain", "level": "debug"},
            "mqtt": {"broker": f"mqtt://127.0.0.1:{port}"},
            "web": {"listen": None},
            "cameras": cameras,
            **more,
        }
        self.config.write_text(yaml.safe_dump(content))
        self.log_path = folder / "log.txt"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *args: str, entry: tuple[str, ...] = ("-m", "edge.cli"), env: dict[str, str] | None = None) -> Node:
        """entry: the arguments of Python.  env: further variables of the environment."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *entry, "run", "-c", str(self.config), *args],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **(env or {})},
            )
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def children(self) -> list[int]:
        """Process ids of the camera processes, and of the page if it is on."""
        tasks = Path(f"/proc/{self.pid}/task")
        found = []
        for task in tasks.iterdir() if tasks.exists() else []:
            found += [int(pid) for pid in (task / "children").read_text().split()]
        return found

    def camera_processes(self) -> list[int]:
        """Process ids of the camera processes, in the order of their start."""
        return sorted(pid for pid in self.children() if b"edge.camera.process" in _command(pid))

    def page_process(self) -> int:
        """Process id of the page."""
        return next(pid for pid in self.children() if b"edge.web" in _command(pid))

    def stop(self, timeout_s: float = 10) -> int:
        """Send SIGTERM.  Returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(5)


class Subscriber:
    """A SCADA client with a persistent session: keeps every message of the node in order."""

    def __init__(self, port: int, topics: tuple[str, ...] = ("defectd/#",), client_id: str = "scada") -> None:
        self._messages: queue.SimpleQueue[tuple[float, str, Any]] = queue.SimpleQueue()
        self.messages: list[tuple[float, str, Any]] = []
        self._ready = threading.Event()
        self.subscriptions = 0
        """Granted by the broker, once for each connection."""
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False)
        self._client.on_connect = lambda client, *_: [client.subscribe(topic, qos=1) for topic in topics]
        self._client.on_subscribe = lambda *_: self._granted()
        self._client.on_message = lambda _c, _u, m: self._messages.put((time.monotonic(), m.topic, m.payload))
        self._client.reconnect_delay_set(1, 1)
        self._client.connect_async("127.0.0.1", port, keepalive=10)
        self._client.loop_start()
        assert self._ready.wait(10), "the subscriber does not reach the broker"

    def _granted(self) -> None:
        self.subscriptions += 1
        self._ready.set()

    def all(self) -> list[tuple[float, str, Any]]:
        while not self._messages.empty():
            at, topic, payload = self._messages.get()
            self.messages.append((at, topic, json.loads(payload) if payload else None))
        return self.messages

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """Events in the order of arrival, without the repetitions that at-least-once delivery allows."""
        seen: dict[str, dict[str, Any]] = {}
        for _, topic, message in self.all():
            if topic.endswith("/event") and message["type"].startswith(kind):
                seen.setdefault(message["event_id"], message)
        return list(seen.values())

    def latest(self, topic: str) -> Any:
        return next((message for _, name, message in reversed(self.all()) if name == topic), None)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        # paho closes its last sockets when it is freed: at once, now that it no longer refers to us.
        self._client.on_connect = self._client.on_subscribe = self._client.on_message = None


class HasTopics(Protocol):
    """A subscriber of the node's topics."""

    def latest(self, topic: str) -> Any: ...


def running(client: HasTopics, *cameras: str) -> None:
    """Wait until these cameras are inspected."""
    for name in cameras:
        topic = f"defectd/line3/{name}/state"
        until(lambda topic=topic: (client.latest(topic) or {}).get("state") == "running", 30, topic)


@contextmanager
def subscriber(port: int, **kwargs: Any) -> Iterator[Subscriber]:
    client = Subscriber(port, **kwargs)
    try:
        yield client
    finally:
        client.close()
