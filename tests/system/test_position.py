"""Positions on the strip, from a real daemon, a drive that publishes its speed, and a strip with known defects."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from mosquitto import Mosquitto
from node import Node, subscriber, until
from paho.mqtt.enums import CallbackAPIVersion

from edge.control.unix_socket import ask

pytestmark = pytest.mark.system

MM_PER_PX, FPS, SPEED_PX = 0.25, 30, 60
SPEED = MM_PER_PX * FPS * SPEED_PX / 1000
SOURCE = f"strip:?width=640&height=400&speed_px={SPEED_PX}&classes=scratches,patches"
CAMERA = {
    "name": "top",
    "source": SOURCE,
    "fps": FPS,
    "budget_ms": 2000,
    "scale": {"mm_per_px": MM_PER_PX},
    "direction": "up",
}
TRAVEL = {"topic": "plant/drive", "path": "$.drive.v", "factor": 0.001, "coil_topic": "plant/coil", "stale_s": 1.0}


class Drive:
    """Publishes the speed of the strip 20 times a second, and invalid values between, until it is stopped."""

    def __init__(self, port: int) -> None:
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def publish(self, topic: str, value: object, *, retain: bool = False) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        self.client.publish(topic, text, qos=1, retain=retain)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        invalid = ["stopped", "{}", {"drive": {"v": -5}}, {"drive": {"v": None}}, {"drive": {"v": 1e30}}]
        n = 0
        while not self._stopping.wait(0.05):
            self.publish("plant/drive", {"drive": {"v": SPEED * 1000}})
            self.publish("plant/drive", invalid[n % len(invalid)])
            n += 1

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def close(self) -> None:
        self.stop()
        self.client.disconnect()
        self.client.loop_stop()


def _positioned(events: list[dict[str, Any]], min_count: int) -> list[dict[str, Any]]:
    """The events with a position; empty while there are fewer than `min_count`."""
    found = [event for event in events if event["defect"]["position_m"] is not None]
    return found if len(found) >= min_count else []


def test_events_give_the_position_of_a_defect_on_the_coil(tmp_path: Path, broker: Mosquitto) -> None:
    """Distances between defects are those of the strip, in spite of a burst, invalid values and a silent drive."""
    drive = Drive(broker.port)
    try:
        drive.publish("plant/drive", {"drive": {"v": 49_000}}, retain=True)
        drive.publish("plant/coil", "OLD", retain=True)
        with (
            subscriber(broker.port) as scada,
            Node(tmp_path / "node", broker.port, [CAMERA], travel=TRAVEL) as node,
        ):
            node.start()
            drive.start()
            state = "defectd/line3/top/state"
            until(lambda: (scada.latest(state) or {}).get("strip", {}).get("speed") == "known", 60, "the speed")
            assert scada.latest(state)["strip"]["position_m"] is None, "the start of OLD is unknown"
            drive.publish("plant/coil", "A4711")
            for n in range(10_000):
                drive.client.publish("plant/drive", json.dumps({"drive": {"v": SPEED * 1000 if n % 2 else -1}}))
            placed = until(lambda: _positioned(scada.events("defect.opened"), 4), 30, "defects with a position")
            drive.stop()
            stale = until(lambda: scada.events("speed.stale"), 10, "the stale speed")
            start = time.monotonic()
            assert node.stop() == 0
            assert time.monotonic() - start < 5
            coverage = scada.latest("defectd/line3/top/coverage")["since_start"]["strip"]
    finally:
        drive.close()
    assert {event["defect"]["coil"] for event in placed} == {"A4711"}
    assert stale[0]["camera"] == "node"
    # The number of a frame determines the part of the strip that it shows; the offset to the coil's start is constant.
    rows = [event["frame"]["number"] * SPEED_PX + event["defect"]["extent_px"][1] for event in placed]
    offsets = [event["defect"]["position_m"] - row * MM_PER_PX / 1000 for event, row in zip(placed, rows, strict=True)]
    assert max(offsets) - min(offsets) < 0.03, "a tile is 0.05 m"
    assert all(1 < event["defect"]["length_mm"] < 60 for event in placed)
    assert coverage["passed_m"] == pytest.approx(
        coverage["inspected_m"] + coverage["partial_m"] + coverage["missed_m"], abs=0.002
    )
    assert coverage["inspected_m"] > 0.5


def test_coil_survives_a_kill(tmp_path: Path, broker: Mosquitto) -> None:
    """After the restart events carry its name at once, positions from the next coil on; an ended coil stays ended."""
    travel = {"speed_m_per_s": SPEED}
    with subscriber(broker.port) as scada, Node(tmp_path / "node", broker.port, [CAMERA], travel=travel) as node:

        def coil(action: str, **name: str) -> dict[str, Any]:
            return until(lambda: ask(node.folder / "var", "coil", action=action, **name), 30, f"the answer to {action}")

        def reported(kind: str, count: int = 1, after: int = 0) -> list[dict[str, Any]]:
            def found() -> list[dict[str, Any]]:
                events = [event for event in scada.events(kind) if event["seq"] > after]
                return events if len(events) >= count else []

            return until(found, 30, f"{count} {kind}")

        node.start()
        coil("start", coil="A4711")
        started = reported("coil.started")[0]["time"]
        node.kill()
        node.start()
        shown = coil("show")
        assert (shown["coil"], shown["position_m"], shown["kept_since"]) == ("A4711", None, started)
        restarted = reported("node.started", 2)[-1]["seq"]
        defect = reported("defect.opened", after=restarted)[0]["defect"]
        assert (defect["coil"], defect["position_m"]) == ("A4711", None)
        assert coil("start", coil="A4712")["position_m"] == 0.0
        coil("stop")
        ended = [(event["detail"]["coil"], event["detail"]["length_m"] is None) for event in reported("coil.ended", 2)]
        assert ended == [("A4711", True), ("A4712", False)]
        node.kill()
        node.start()
        shown = coil("show")
        assert (shown["coil"], shown["position_m"], shown["kept_since"]) == (None, None, None)
        assert node.stop() == 0


def test_coil_of_a_node_that_was_off_for_days_is_reported_as_ended(tmp_path: Path, broker: Mosquitto) -> None:
    """The node cannot know which coils ran meanwhile: it gives no name and no position until the next coil."""
    state = tmp_path / "node" / "var"
    state.mkdir(parents=True)
    kept = {"schema": "defectd.coil/1", "coil": "A4711", "since": "2026-01-05T06:00:00.000Z"}
    (state / "coil.json").write_text(json.dumps(kept))
    travel = {"speed_m_per_s": SPEED}
    with subscriber(broker.port) as scada, Node(tmp_path / "node", broker.port, [CAMERA], travel=travel) as node:
        node.start()
        ended = until(lambda: scada.events("coil.ended"), 30, "the end of the coil")[0]
        assert ended["detail"] == {"coil": "A4711", "length_m": None, "by": "restart"}
        shown = until(lambda: ask(state, "coil", action="show"), 30, "the answer")
        assert (shown["coil"], shown["position_m"], shown["kept_since"]) == (None, None, None)
        assert json.loads((state / "coil.json").read_text())["coil"] is None
        assert node.stop() == 0
