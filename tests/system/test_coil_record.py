"""The record of a coil beside a real daemon with faults: each event is in it, and no grade gets better."""

from __future__ import annotations

import hashlib
import os
import resource
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from mosquitto import Mosquitto
from node import Node, subscriber, until

from edge.config import Product
from edge.control.unix_socket import ask
from edge.coverage import coil_record
from edge.coverage.coil_grading import grade_record

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
LIMITED = Path(__file__).with_name("limited.py")
RULES = {"product": "any", "max_missed_share": 0.99, "grades": [{"grade": "A", "minor": 100_000}]}
PRODUCT = Product.model_validate(RULES).model_dump(mode="json")
CAMERA = {
    "name": "top",
    "source": "strip:?width=640&height=400&speed_px=60&classes=scratches,patches&mm_per_px=0.25",
    "fps": 30,
    "budget_ms": 2000,
}


def grade_of(path: Path) -> str:
    grade, _, _ = grade_record(coil_record.items(path), [PRODUCT], [])
    return grade.grade


def stands_still(path: Path | None, seconds: float) -> None:
    """Wait until a file has not grown for so long."""
    assert path is not None
    size, since = path.stat().st_size, time.monotonic()

    def has_stood() -> bool:
        nonlocal size, since
        if path.stat().st_size != size:
            size, since = path.stat().st_size, time.monotonic()
        return time.monotonic() - since >= seconds

    until(has_stood, 30, "a record that cannot grow")


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
    assert grade_of(path) == "not graded", "without the fault it is A"
    assert (record.summary.length_m, record.ended is not None) == (None, True)
    reach = max(run.to_m for run in record.runs["top"])
    assert reach < max(event["defect"]["position_m"] for event in placed) + 0.5, "no runs at unknown places"
    assert {run.kind for run in record.runs["top"]} <= {"whole", "partial", "missed"}


def test_full_disk_and_broker_outage_cost_no_event(tmp_path: Path, broker: Mosquitto) -> None:
    """No file grows for a time, and the broker is away: the record has what the broker got, or says what is missing."""
    folder = tmp_path / "node"
    with ExitStack() as stack:
        scada = stack.enter_context(subscriber(broker.port))
        node = stack.enter_context(Node(folder, broker.port, [CAMERA]))
        state, fifo = folder / "var", folder / "limits"
        os.mkfifo(fifo)
        node.start(entry=(str(LIMITED),), env={"DEFECTD_LIMITS": str(fifo), "PYTHONPATH": str(ROOT)})
        until(lambda: scada.events("defect.opened"), 60, "a camera that sees the strip")
        until(lambda: ask(state, "coil", action="start", coil="A4711"), 30, "the start of the coil")
        until(lambda: scada.events("coil.started"), 30, "the coil")
        until(lambda: coil_record.find(state / "coils", "A4711"), 30, "its record")
        broker.kill()
        fifo.write_text(f"{resource.RLIMIT_FSIZE} 1\n")
        stands_still(coil_record.find(state / "coils", "A4711"), 3.0)
        fifo.write_text(f"{resource.RLIMIT_FSIZE} -1\n")
        broker.start()
        seen = len(scada.events("defect.closed"))
        until(lambda: len(scada.events("defect.closed")) >= seen + 3, 30, "defects after it")
        until(lambda: ask(state, "coil", action="stop"), 30, "the end of the coil")
        until(lambda: scada.events("coil.ended"), 30, "the end of the coil on the broker")
        assert node.stop(30) == 0, node.log()[-3000:]
        published = {event["seq"] for event in scada.events("defect.") if event["defect"]["coil"] == "A4711"}
    path = coil_record.find(state / "coils", "A4711")
    assert path is not None
    record = coil_record.read(path)
    written = {item.seq for item in coil_record.items(path) if isinstance(item, coil_record.Defect)}
    missing = {seq for first, last in record.summary.seq.missing for seq in range(first, last + 1)}
    assert published - written <= missing
    assert written - published == set()
    is_whole = record.summary.is_complete and record.summary.length_m is not None
    assert grade_of(path) == ("A" if is_whole else "not graded")
