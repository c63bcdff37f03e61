"""The page beside a real daemon: it is served, comes back, and costs the inspection nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from fakes.page_client import PageClient
from fakes.ports import free_port
from node import Node, running, subscriber, until

from edge.config import StateDir
from edge.delivery.page.messages import CameraWant

pytestmark = pytest.mark.system

CAMERA = {"name": "top", "source": "strip:?seed=1", "fps": 30, "budget_ms": 500}


def api_state(port: int) -> dict[str, Any] | None:
    """What the page states of the node; None while it is not served."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/state", timeout=5) as answer:
            state: dict[str, Any] = json.load(answer)
            return state
    except OSError:
        return None


def test_page_that_is_killed_comes_back_and_the_node_stops_with_viewers(broker: Any, tmp_path: Path) -> None:
    """Frames and events come over the feed meanwhile; the status shows the restart; no process is left behind."""
    port, folder = free_port(), tmp_path / "node"
    more = {"web": {"listen": f"127.0.0.1:{port}"}, "state_dir": str(folder / "var")}
    with subscriber(broker.port) as client, Node(folder, broker.port, [CAMERA], **more) as node:
        node.start()
        running(client, "top")

        def page() -> dict[str, Any]:
            return (client.latest("defectd/line3/status") or {}).get("page") or {}

        until(lambda: page().get("link") == f"http://127.0.0.1:{port}/", 30, "the link in the status")
        until(lambda: (api_state(port) or {}).get("verdict") in ("inspecting", "degraded"), 30, "a verdict")
        pid = node.page_process()
        assert os.sched_getscheduler(pid) == os.SCHED_IDLE
        with PageClient(StateDir(folder / "var").page_socket) as viewer:
            viewer.want({"top": CameraWant(10.0, 400)})
            first = viewer.next("frame", 30).header
            os.kill(pid, signal.SIGKILL)
            until(lambda: page().get("restarts"), 30, "the restart in the status")
            assert "SIGKILL" in page()["last_error"]
            until(lambda: api_state(port), 30, "the page after its restart")
            viewer.want({"top": CameraWant(10.0, 400)})
            assert viewer.next("frame", 30).header["number"] > first["number"]
            restarted = node.page_process()
            assert node.stop(15) == 0, node.log()
            assert viewer.next("bye", 5)
        until(lambda: not Path(f"/proc/{restarted}").exists(), 5, "the end of the page")
        assert not StateDir(folder / "var").page_socket.exists()


def test_port_in_use_is_reported_and_tried_again(broker: Any, tmp_path: Path) -> None:
    """Inspection goes on; as soon as the port is free the page is served."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        more = {"web": {"listen": f"127.0.0.1:{port}"}}
        with subscriber(broker.port) as client, Node(tmp_path / "node", broker.port, [CAMERA], **more) as node:
            node.start()
            running(client, "top")

            def page() -> dict[str, Any]:
                return (client.latest("defectd/line3/status") or {}).get("page") or {}

            until(lambda: page().get("restarts", 0) >= 1, 30, "the first attempt")
            assert f"cannot be served on 127.0.0.1:{port}" in page()["last_error"]
            other.close()
            until(lambda: api_state(port), 60, "the page on the port that is free")
            assert node.stop(15) == 0, node.log()
