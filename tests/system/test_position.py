"""Position on the strip: a real daemon, a real broker, a drive that tells its speed, and steel whose truth is known."""

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
    """Tells the speed of the strip 20 times a second, with rubbish between, until it is stopped."""

    def __init__(self, port: int) -> None:
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def say(self, topic: str, value: object, *, retain: bool = False) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        self.client.publish(topic, text, qos=1, retain=retain)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        rubbish = ["stopped", "{}", {"drive": {"v": -5}}, {"drive": {"v": None}}, {"drive": {"v": 1e30}}]
        n = 0
        while not self._stopping.wait(0.05):
            self.say("plant/drive", {"drive": {"v": SPEED * 1000}})
            self.say("plant/drive", rubbish[n % len(rubbish)])
            n += 1

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def close(self) -> None:
        self.stop()
        self.client.disconnect()
        self.client.loop_stop()


def _on_coil(events: list[dict[str, Any]], least: int) -> list[dict[str, Any]]:
    """Those with a position, once there are so many."""
    found = [event for event in events if event["defect"]["position_m"] is not None]
    return found if len(found) >= least else []


def test_events_tell_where_on_the_coil_a_defect_lies(tmp_path: Path, broker: Mosquitto) -> None:
    """Distances between defects are those of the strip; a burst, rubbish and a silent drive cost no position."""
    drive = Drive(broker.port)
    try:
        drive.say("plant/drive", {"drive": {"v": 49_000}}, retain=True)
        drive.say("plant/coil", "OLD", retain=True)
        with (
            subscriber(broker.port) as scada,
            Node(tmp_path / "node", broker.port, [CAMERA], travel=TRAVEL) as node,
        ):
            node.start()
            drive.start()
            state = "defectd/line3/top/state"
            until(lambda: (scada.latest(state) or {}).get("strip", {}).get("speed") == "known", 60, "the speed")
            assert scada.latest(state)["strip"]["position_m"] is None, "nobody knows when OLD began"
            drive.say("plant/coil", "A4711")
            for n in range(10_000):
                drive.client.publish("plant/drive", json.dumps({"drive": {"v": SPEED * 1000 if n % 2 else -1}}))
            placed = until(lambda: _on_coil(scada.events("defect.opened"), 4), 30, "defects with a position")
            drive.stop()
            stale = until(lambda: scada.events("speed.stale"), 10, "the stale speed")
            began = time.monotonic()
            assert node.stop() == 0
            assert time.monotonic() - began < 5
            coverage = scada.latest("defectd/line3/top/coverage")["since_start"]["strip"]
    finally:
        drive.close()
    assert {event["defect"]["coil"] for event in placed} == {"A4711"}
    assert stale[0]["camera"] == "node"
    # The number of a frame says which steel it shows; how far its count is from the coil's is the same for all.
    rows = [event["frame"]["number"] * SPEED_PX + event["defect"]["extent_px"][1] for event in placed]
    offsets = [event["defect"]["position_m"] - row * MM_PER_PX / 1000 for event, row in zip(placed, rows, strict=True)]
    assert max(offsets) - min(offsets) < 0.03, "a tile is 0.05 m"
    assert all(1 < event["defect"]["length_mm"] < 60 for event in placed)
    assert coverage["passed_m"] == pytest.approx(
        coverage["inspected_m"] + coverage["partial_m"] + coverage["missed_m"], abs=0.002
    )
    assert coverage["inspected_m"] > 0.5


def test_coil_survives_a_kill(tmp_path: Path, broker: Mosquitto) -> None:
    """Its name is known again from the first defect on, its position from the next coil on; a stopped one stays so."""
    travel = {"speed_m_per_s": SPEED}
    with subscriber(broker.port) as scada, Node(tmp_path / "node", broker.port, [CAMERA], travel=travel) as node:

        def coil(action: str, **name: str) -> dict[str, Any]:
            return until(lambda: ask(node.folder / "var", "coil", action=action, **name), 30, f"the answer to {action}")

        def told(kind: str, count: int = 1, after: int = 0) -> list[dict[str, Any]]:
            def found() -> list[dict[str, Any]]:
                events = [event for event in scada.events(kind) if event["seq"] > after]
                return events if len(events) >= count else []

            return until(found, 30, f"{count} {kind}")

        node.start()
        coil("start", coil="A4711")
        begun = told("coil.started")[0]["time"]
        node.kill()
        node.start()
        shown = coil("show")
        assert (shown["coil"], shown["position_m"], shown["kept_since"]) == ("A4711", None, begun)
        restarted = told("node.started", 2)[-1]["seq"]
        defect = told("defect.opened", after=restarted)[0]["defect"]
        assert (defect["coil"], defect["position_m"]) == ("A4711", None)
        assert coil("start", coil="A4712")["position_m"] == 0.0
        coil("stop")
        ended = [(event["detail"]["coil"], event["detail"]["length_m"] is None) for event in told("coil.ended", 2)]
        assert ended == [("A4711", True), ("A4712", False)]
        node.kill()
        node.start()
        shown = coil("show")
        assert (shown["coil"], shown["position_m"], shown["kept_since"]) == (None, None, None)
        assert node.stop() == 0


def test_coil_of_a_node_that_was_off_for_days_is_told_as_ended(tmp_path: Path, broker: Mosquitto) -> None:
    """Nobody said what ran since: no name is better than a wrong one, and positions wait for the next coil."""
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
