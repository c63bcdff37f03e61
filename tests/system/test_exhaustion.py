"""A node whose machine runs out of something: inspection goes on, or ends in order with its accounts right."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from fakes.waiting import until
from mosquitto import Mosquitto
from node import Node, Subscriber, running, subscriber
from test_stop import STOP_S, assert_stopped_in_order, last_run, state_of

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
LIMITED = Path(__file__).with_name("limited.py")
USER = 54321
"""No process of this machine has it, and its number of processes is limited, which root's is not."""
AS_USER = f"""
import os, sys
caps = "-all,+dac_override,+dac_read_search"
os.execvp("setpriv", ["setpriv", "--reuid={USER}", "--regid={USER}", "--clear-groups", "--inh-caps=" + caps,
          "--ambient-caps=" + caps, sys.executable, {str(LIMITED)!r}, *sys.argv[1:]])
"""
RING_BYTES = 2 << 20
"""Less than the ring of a camera needs, more than the outbox writes in this time."""


@contextmanager
def limited(node: Node, kind: int, value: int) -> Iterator[None]:
    """Lower a limit of the running daemon."""
    fifo = node.folder / "limits"
    fifo.write_text(f"{kind} {value}\n")
    try:
        until(lambda: f" {value} " in Path(f"/proc/{node.pid}/limits").read_text(), 10, "the limit")
        yield
    finally:
        with suppress(OSError):  # the daemon has ended
            handle = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
            os.write(handle, f"{kind} -1\n".encode())
            os.close(handle)


def no_files(node: Node) -> object:
    """Every new descriptor is refused."""
    return limited(node, resource.RLIMIT_NOFILE, 3)


def no_threads(node: Node) -> object:
    """Every new thread and process is refused."""
    return limited(node, resource.RLIMIT_NPROC, 1)


def no_ring(node: Node) -> object:
    """The memory of a new ring is refused: a limit of the size of files holds for it."""
    return limited(node, resource.RLIMIT_FSIZE, RING_BYTES)


def no_memory(node: Node) -> object:
    """Every new mapping of the daemon is refused, and so is the start of its camera processes."""
    status = Path(f"/proc/{node.pid}/status").read_text()
    size_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmSize"))
    return limited(node, resource.RLIMIT_AS, size_kb << 10)


@contextmanager
def no_connections(node: Node) -> Iterator[None]:
    """The HTTP server has more connections than the daemon may have files."""
    port = int(node.log().split("metrics on http://127.0.0.1:")[1].split("/")[0])
    clients: list[socket.socket] = []
    with limited(node, resource.RLIMIT_NOFILE, 128):
        try:
            clients.extend(socket.create_connection(("127.0.0.1", port), 5) for _ in range(300))
            yield
        finally:
            for client in clients:
                client.close()


@contextmanager
def a_node(folder: Path, broker: Mosquitto, http_port: int) -> Iterator[tuple[Node, Subscriber]]:
    """Two cameras are inspected."""
    source = "strip:?width=1600&height=256&seed={}"
    cameras = [{"name": n, "source": source.format(s), "fps": 10, "budget_ms": 1000} for s, n in enumerate("ab")]
    more = {**state_of(folder), "metrics": {"listen": f"127.0.0.1:{http_port}"}, "evidence": {"enabled": True}}
    with Node(folder, broker.port, cameras, **more) as node, subscriber(broker.port, client_id="watch") as client:
        os.mkfifo(folder / "limits")
        env = {"DEFECTD_LIMITS": str(folder / "limits"), "PYTHONPATH": str(ROOT)}
        if os.geteuid() == 0:
            if shutil.which("setpriv") is None:
                pytest.skip("setpriv is not installed: root has no limit of processes")
            for path in (folder, folder / "limits"):
                shutil.chown(path, USER, USER)
            node.start(entry=("-c", AS_USER), env=env)
        else:
            node.start(entry=(str(LIMITED),), env=env)
        running(client, "a", "b")
        yield node, client


@pytest.mark.parametrize(
    "shortage", [no_files, no_threads, no_ring, no_memory, no_connections], ids=lambda f: f.__name__
)
def test_node_that_runs_out_of_something_inspects_on_and_recovers(
    shortage: Callable[[Node], object], tmp_path: Path, broker: Mosquitto, free_port: int
) -> None:
    """A camera process is killed, the broker restarts and a reload is asked for meanwhile; the other camera goes on."""
    with a_node(tmp_path / "node", broker, free_port) as (node, client):
        with shortage(node):  # type: ignore[attr-defined]
            os.kill(node.camera_processes()[0], signal.SIGKILL)
            broker.kill()
            broker.start()
            os.kill(node.pid, signal.SIGHUP)
            until(lambda: "is lost" in node.log(), 20, "the loss is noticed")
            before = node.log().count(" b: running")
            until(lambda: node.log().count(" b: running") >= before + 6, 20, f"b goes on\n{node.log()[-3000:]}")
        running(client, "a", "b")
        assert node.stop(STOP_S) == 0, node.log()[-3000:]
        assert_stopped_in_order(node)
        assert last_run(node)["cameras"]["b"]["frames"]["dropped"] == 0
