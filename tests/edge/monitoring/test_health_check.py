"""The health check of a container engine, and the page of the same rule."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from threading import Event

import pytest
from fakes.monitoring import Scene
from pydantic import SecretStr

from edge import config
from edge.host.clock import SystemClock
from edge.monitoring.health_check import check, fetch
from edge.monitoring.http_server import HttpServer
from edge.monitoring.route import Request, Response, Route


def settings(folder: Path, listen: str | None) -> config.Config:
    camera = config.Camera(name="top", source=SecretStr("strip:"))
    return config.Config(node="n1", state_dir=folder, metrics=config.Metrics(listen=listen), cameras=(camera,))


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """A state directory whose lock a daemon holds."""
    handle = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    yield tmp_path
    os.close(handle)


@contextmanager
def serving(routes: Mapping[str, Route]) -> Iterator[int]:
    server = HttpServer(("127.0.0.1", 0), SystemClock())
    assert server.start(routes)
    try:
        yield server.port
    finally:
        assert server.stop(5)


def test_loop_that_stands_still_is_unhealthy(held: Path) -> None:
    """A loop that came round lately is alive; one that has not for longer than the watchdog allows is named."""
    scene = Scene()
    with serving(scene.routes) as port:
        health = check(settings(held, f"0.0.0.0:{port}"))
        assert (health.alive, health.says) == (True, "1 loops move")
        scene.clock.advance(60)
        health = check(settings(held, f"127.0.0.1:{port}"))
        assert (health.alive, "the loop inspection" in health.says) == (False, True)


def test_page_has_the_status_of_the_check() -> None:
    """One line of JSON with the age of each loop: 200 while they move, 503 when one does not."""
    scene = Scene()
    page = scene.routes["/healthz"].handler
    answers = [page(Request("/healthz"))]
    scene.clock.advance(60)
    answers.append(page(Request("/healthz")))
    assert [answer.status for answer in answers] == [200, 503]
    assert [json.loads(answer.body)["alive"] for answer in answers] == [True, False]
    assert [json.loads(answer.body)["loops"] for answer in answers] == [{"inspection": 0.5}, {"inspection": 60.5}]
    assert all(answer.body.count(b"\n") == 1 for answer in answers)


def test_health_is_answered_while_the_metrics_page_hangs(held: Path) -> None:
    """The page has no need of the thread that makes the other pages."""
    hanging = Event()

    def wait(_request: Request) -> Response:
        hanging.wait(10)
        return Response.text(HTTPStatus.OK, "late")

    with serving({**Scene().routes, "/metrics": Route(wait)}) as port:
        with socket.create_connection(("127.0.0.1", port)) as scraper:
            scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert check(settings(held, f"127.0.0.1:{port}")).alive
        hanging.set()


def test_daemon_that_does_not_run_or_answer_is_unhealthy(held: Path, tmp_path: Path, free_port: int) -> None:
    """No daemon has the state directory, or one has it and does not answer; without metrics the lock decides."""
    assert not check(settings(tmp_path / "other", None)).alive
    assert "does not answer" in check(settings(held, f"127.0.0.1:{free_port}")).says
    assert check(settings(held, None)).alive


def test_other_program_on_the_port_is_unhealthy(held: Path) -> None:
    """Its answer is not taken for that of the daemon."""
    for body in ("hello", '{"status": "ok"}', "[1]", "null"):
        page = Route(lambda _, body=body: Response.text(HTTPStatus.OK, body))
        with serving({"/healthz": page}) as port:
            health = check(settings(held, f"127.0.0.1:{port}"))
            assert (health.alive, "another program" in health.says) == (False, True)


def test_metrics_without_a_server_cannot_be_fetched(held: Path) -> None:
    """The support bundle names the key."""
    with pytest.raises(ValueError, match=r"metrics\.listen is null"):
        fetch(settings(held, None).metrics, "/metrics")


def test_health_check_is_light() -> None:
    """Run every 30 s on small machines: neither OpenCV nor the network runtime, MQTT or the HTTP server is loaded."""
    code = (
        "import sys, edge.monitoring.health_check;"
        "print(*{'cv2', 'onnxruntime', 'paho', 'numpy', 'tornado', 'asyncio', 'prometheus_client'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
