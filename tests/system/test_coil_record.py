"""The record of a coil beside a real daemon that is killed: each event of the broker is in it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from mosquitto import Mosquitto
from node import Node, subscriber, until

from edge.control.unix_socket import ask
from edge.coverage import coil_record

pytestmark = pytest.mark.system

CAMERA = {
    "name": "top",
    "source": "strip:?width=640&height=400&speed_px=60&classes=scratches,patches&mm_per_px=0.25",
    "fps": 30,
    "budget_ms": 2000,
}


def test_record_is_complete_after_a_kill(tmp_path: Path, broker: Mosquitto) -> None:
    """Killed in the middle of a coil: the same defects as on the broker, the meters afterwards unknown, seq whole."""
    with subscriber(broker.port) as scada, Node(tmp_path / "node", broker.port, [CAMERA]) as node:
        state = node.folder / "var"

        def order(action: str, **name: str) -> Any:
            return until(lambda: ask(state, "coil", action=action, **name), 30, f"the answer to {action}")

        node.start()
        until(lambda: scada.events("defect.opened"), 30, "a camera that sees the strip")
        order("start", coil="A4711")
        until(lambda: len(scada.events("defect.closed")) >= 6, 30, "defects")
        node.kill()
        node.start()
        until(lambda: len(scada.events("node.started")) == 2, 30, "the restart")
        until(lambda: scada.events("defect.closed")[-1]["defect"]["position_m"] is None, 30, "a defect after it")
        order("stop")
        until(lambda: scada.events("coil.ended"), 30, "the end of the coil")
        report = until(lambda: scada.latest("defectd/line3/coil/report"), 60, "the summary of its report")
        assert node.stop() == 0
        published = {event["seq"]: event for event in scada.events("defect.") if event["defect"]["coil"] == "A4711"}
        placed = [event for event in published.values() if event["defect"]["position_m"] is not None]
    path = coil_record.find(state / "coils", "A4711")
    assert path is not None
    written = {item.seq: item for item in coil_record.items(path) if isinstance(item, coil_record.Defect)}
    assert written.keys() == published.keys()
    for seq, event in published.items():
        defect = event["defect"]
        assert (written[seq].from_m, written[seq].class_name) == (defect["position_m"], defect["class"])
        assert list(written[seq].across_mm or ()) == defect["across_mm"]
    record = coil_record.read(path)
    assert (report["coil"], report["id"], report["length_m"]) == ("A4711", record.summary.id, None)
    for file in report["files"]:
        made = (state / "coils" / "reports" / file["name"]).read_bytes()
        assert hashlib.sha256(made).hexdigest() == file["sha256"]
    assert record.summary.seq.is_complete
    assert len(record.resumed) == 1
    assert (record.summary.length_m, record.ended is not None) == (None, True)
    reach = max(run.to_m for run in record.runs["top"])
    assert reach < max(event["defect"]["position_m"] for event in placed) + 0.5, "no runs at unknown places"
    assert {run.kind for run in record.runs["top"]} <= {"whole", "partial", "missed"}
