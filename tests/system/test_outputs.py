"""Inspection and the delivery of events continue in a real daemon whose outputs fail in every way."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any

import pytest
from fakes.ports import free_port
from node import Node, running, subscriber, until

pytestmark = pytest.mark.system
TOYS = Path(__file__).with_name("toy_outputs.py")


def test_outputs_that_fail_end_neither_inspection_nor_delivery(broker: Any, tmp_path: Path) -> None:
    """The status names each output with its fault; the node still inspects after the watchdog's limit."""
    port = free_port()
    camera = {"name": "top", "source": "strip:?seed=1", "fps": 30, "budget_ms": 500, "live": False}
    more = {"metrics": {"listen": f"127.0.0.1:{port}"}}
    with subscriber(broker.port) as client, Node(tmp_path / "node", broker.port, [camera], **more) as node:
        node.start(entry=(str(TOYS),))
        running(client, "top")

        def outputs() -> dict[str, Any]:
            return (client.latest("defectd/line3/status") or {}).get("outputs", {})

        failing = ("raising", "dying", "hanging", "blocking")
        until(lambda: all(outputs().get(name, {}).get("restarts") for name in failing), 60, f"faults: {outputs()}")
        found = outputs()
        assert (found["good"]["state"], found["good"]["restarts"]) == ("running", 0)
        assert "fails" in found["raising"]["last_error"]
        assert found["dying"]["last_error"] == "its thread has ended"
        assert all(found[name]["state"] == "restarting" for name in failing)
        before = len(client.events("defect."))
        until(lambda: len(client.events("defect.")) > before, 30, "an event after the faults")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            metrics = answer.read().decode()
        if "defectd_output_up" in metrics:
            assert 'defectd_output_up{output="good"} 1.0' in metrics
            assert 'defectd_output_up{output="dying"} 0.0' in metrics
            assert 'defectd_output_restarts_total{output="dying"}' in metrics
        assert 'loop="hanging"' not in metrics, "the health check must not depend on optional threads"
        assert node.process is not None
        assert node.process.poll() is None, node.log()
        assert node.stop(15) == 0, node.log()
        assert client.latest("defectd/line3/status")["online"] is False
