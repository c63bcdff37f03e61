"""The page's feed over its real socket: what clients get, and what they cannot do to the node."""

from __future__ import annotations

import json
import logging
import stat
import struct
import threading
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from fakes.outbox import open_outbox
from fakes.page_client import PageClient
from fakes.waiting import until

from edge.coverage.strip_position import StripReading
from edge.delivery.frame_tap import FrameTap, ShownFrame, ShownRegion, ShownTiles
from edge.delivery.outbox.rows import Draft
from edge.delivery.output import CameraFigures, CameraReport, NodeProperties, NodeStatus
from edge.delivery.page import client as page_client
from edge.delivery.page import frame_messages
from edge.delivery.page import output as page_output
from edge.delivery.page.log_ring import LogRing
from edge.delivery.page.messages import CameraWant
from edge.delivery.page.output import PageOutput
from edge.delivery.page_life import PageLife, PageSign
from edge.host.clock import NS_PER_MS, SystemClock

FAST = CameraWant(10.0, 1600)
REGION = ShownRegion(
    "scratches", 0.97, (10, 20, 30, 40), "t-1", 3.1, (12, 22, 5, 6), 33.5, candidates=(("patches", 0.4),)
)
STRIP = StripReading("known", 1.5, "B1", 12.0)
METERS = {"passed_m": 9.0, "inspected_m": 8.0, "partial_m": 0.5, "missed_m": 0.5}
FIGURES = CameraFigures({"ok": 7}, {"inspected": 56, "skipped": 0}, METERS, (160, 80), None, 0.5, 20.0, "top", "left")
STATUS = NodeStatus(
    "2026-11-29T00:00:00.000Z",
    STRIP,
    {"top": FIGURES},
    {"connected": True, "queued": 0, "dead_letters": 0},
    {"page": {"state": "running", "restarts": 0, "last_error": None}},
    {
        "name": "student",
        "version": "1",
        "sha256": "ab",
        "precision": "int8",
        "classes": ["scratches"],
        "canary": None,
        "shadow": None,
    },
    {"temperature_c": None, "throttled": [], "clock_synced": True, "rss_mb": 90, "disk_free_mb": 900},
    {"files": 1, "bytes": 2, "max_bytes": 3},
)
SCHEMA = json.loads(files("edge").joinpath("schema/api-state-1.json").read_text("utf-8"))


class Scene:
    """A feed with an outbox, and what the inspection loop would do with its tap."""

    def __init__(self, folder: Path, *cameras: str) -> None:
        self.path = folder / "web.sock"
        self.outbox = open_outbox(folder)
        self.tap = FrameTap()
        self.life = PageLife()
        self.clock = SystemClock()
        self.output = PageOutput(self.path, "line3", cameras or ("top",), self.outbox, self.tap, self.life, self.clock)
        self.number = 0

    def client(self, **options: Any) -> PageClient:
        client = PageClient(self.path, **options)
        self.hello = client.next("hello").header
        return client

    def offer(self, camera: str = "top", pixels: Any = None, **about: Any) -> None:
        """A frame, by default one whose every pixel is its number, as soon as one is due."""
        until(lambda: self.tap.is_due(camera, self.clock.monotonic_ns()))
        self.number += 1
        if pixels is None:
            pixels = np.full((80, 160), self.number % 256, np.uint8)
        now_ns = self.clock.monotonic_ns()
        frame = ShownFrame(camera, self.number, now_ns - 5 * NS_PER_MS, pixels, **{"state": "ok", **about})
        self.tap.put(frame, now_ns)

    def store(self, kind: str, **fields: Any) -> int:
        payload = {"event_id": f"e{self.outbox.last_seq}", "seq": 0, "type": kind, "camera": "top", **fields}
        seqs = self.outbox.append([Draft("t", payload, payload["event_id"])])
        self.output.wake()
        return seqs[0]


def _framed(text: bytes) -> bytes:
    return struct.pack("!II", 4 + len(text), len(text)) + text


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    scene.output.start()
    yield scene
    assert scene.output.stop(1.0)
    scene.outbox.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "page"]


def test_the_socket_is_the_owners_alone_and_goes_with_the_feed(tmp_path: Path) -> None:
    """Mode 0600; a socket that was left behind is replaced; one of a successor stays."""
    scene = Scene(tmp_path)
    scene.path.touch()
    scene.output.start()
    assert stat.S_IMODE(scene.path.stat().st_mode) == 0o600
    later = Scene(tmp_path)
    later.output.start()
    assert scene.output.stop(1.0)
    assert scene.path.exists()
    assert later.output.stop(1.0)
    assert not scene.path.exists()
    assert not later.output.alive


def test_a_feed_that_cannot_listen_raises(tmp_path: Path) -> None:
    """Its supervisor tries again and reports the reason."""
    scene = Scene(tmp_path)
    scene.output = output = PageOutput(
        tmp_path / "absent" / "web.sock", "n", ("top",), scene.outbox, scene.tap, scene.life, scene.clock
    )
    with pytest.raises(OSError, match="absent"):
        output.start()
    assert output.stop(0.0)


def test_a_client_is_greeted_with_the_epoch_and_the_state(scene: Scene) -> None:
    """Also where nothing is known yet: unknown is null."""
    with scene.client() as client:
        assert scene.hello["node"] == "line3"
        assert scene.hello["last_seq"] == 0
        state = client.next("state").header["state"]
    assert state["epoch"] == scene.hello["epoch"]
    assert state["schema"] == "defectd.api.state/1"
    assert state["verdict"] == "not_inspecting"
    assert state["strip"]["coil"] is None
    assert state["cameras"][0]["size_px"] is None
    jsonschema.validate(state, SCHEMA)


def test_the_state_has_what_the_node_reports(scene: Scene) -> None:
    """Values from before the connection too; the defects are those of the coil that runs."""
    scene.store("defect.opened", defect={"severity": "major"})
    scene.store("coil.started", time="2026-11-29T01:00:00.000Z")
    scene.store("defect.opened", defect={"severity": "critical"})
    scene.store("defect.opened", defect={})
    scene.output.set_properties(NodeProperties("1", "cd", "student", "1", "ab"))
    scene.output.state("top", {"state": "running", "reason": None, "since": "s", "fps": 30.0})
    scene.output.report(CameraReport("top", 30.0, 1.0, 2.0, {"frames": {"late": 0}, "delivered": 300}))
    scene.output.set_node(STATUS)
    with scene.client() as client:
        state = client.next("state").header["state"]
    assert state["verdict"] == "inspecting"
    assert state["strip"] | {"speed": ""} == {
        "is_on": True,
        "speed": "",
        "coil": "B1",
        "position_m": 12.0,
        "speed_m_per_s": 1.5,
        "since": "2026-11-29T01:00:00.000Z",
        "inspected_m": 8.0,
        "partial_m": 0.5,
        "missed_m": 0.5,
        "defects": {"minor": 1, "major": 0, "critical": 1},
    }
    (camera,) = state["cameras"]
    assert (camera["p99_ms"], camera["size_px"], camera["defects"]) == (2.0, [160, 80], 2)
    assert state["delivery"]["last_seq"] == 4
    assert state["outputs"][0]["name"] == "page"
    jsonschema.validate(state, SCHEMA)


@pytest.mark.parametrize(
    ("state", "coverage", "status", "verdict", "reason"),
    [
        ({"state": "running", "reason": None}, {}, STATUS, "inspecting", None),
        ({"state": "paused", "reason": "by a command"}, {}, STATUS, "not_inspecting", "is paused: by a command"),
        ({"state": "running", "reason": "drifted: brightness"}, {}, STATUS, "degraded", "drifted"),
        ({"state": "running"}, {"frames": {"late": 9}, "delivered": 300}, STATUS, "degraded", "9 of 300 frames"),
    ],
)
def test_the_verdict_gives_its_reasons(
    scene: Scene, state: Any, coverage: Any, status: Any, verdict: str, reason: str | None
) -> None:
    """Whether the strip is inspected, in words that a person can act on."""
    scene.output.state("top", state)
    scene.output.report(CameraReport("top", 30.0, 1.0, 2.0, coverage))
    scene.output.set_node(status)
    with scene.client() as client:
        found = client.next("state").header["state"]
    assert found["verdict"] == verdict
    assert [reason in each for each in found["reasons"]] == ([] if reason is None else [True])


def test_events_come_in_order_from_the_connection_on(scene: Scene) -> None:
    """Each once, as published, to every client."""
    scene.store("node.started")
    with scene.client() as one, scene.client() as other:
        assert scene.hello["last_seq"] == 1
        seqs = [scene.store("image.bad", number=n) for n in range(250)]
        for client in (one, other):
            found = [client.next("event").header for _ in seqs]
            assert [event["seq"] for event in found] == seqs == [event["payload"]["seq"] for event in found]
            assert found[-1]["payload"]["number"] == 249


def test_while_nobody_wants_frames_none_is_copied(scene: Scene) -> None:
    """A client alone costs no frame; a want that is not renewed ends, and so does one of a client that has gone."""
    with scene.client() as client:
        client.next("state")
        assert not scene.tap.wanted
        client.want({"top": FAST})
        until(lambda: scene.tap.wanted == {"top": 10.0})
        client.want({"top": CameraWant(2.0, 800)})
        until(lambda: scene.tap.wanted == {"top": 2.0})
    until(lambda: not scene.tap.wanted)


def test_a_want_ends_without_a_renewal(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page process that hangs must not keep the inspection loop copying."""
    monkeypatch.setattr(page_client, "WANT_S", 0.3)
    with scene.client() as client:
        client.want({"top": FAST}, {"top": 3})
        until(lambda: scene.tap.wanted)
        until(lambda: not scene.tap.wanted)


def test_a_frame_comes_with_its_own_boxes(scene: Scene) -> None:
    """The pixels, the number and the regions are of one frame; the JPEG is scaled, the boxes are not."""
    with scene.client() as client:
        client.want({"top": CameraWant(10.0, 80)})
        until(lambda: scene.tap.wanted)
        about = {"regions": (REGION,), "tiles": ShownTiles(8, 1, 2), "position_m": 7.5, "coil": "B1"}
        scene.offer(state="defect", roi_px=(1, 2, 3, 4), **about)
        message = client.next("frame")
    header = message.header
    assert header["regions"] == [
        {
            "track_id": "t-1",
            "class": "scratches",
            "confidence": 0.97,
            "anomaly": 3.1,
            "severity": "minor",
            "box_px": [10, 20, 30, 40],
            "extent_px": [12, 22, 5, 6],
            "length_mm": 33.5,
            "candidates": [{"class": "patches", "confidence": 0.4}],
        }
    ]
    assert (header["number"], header["size_px"], header["jpeg_px"]) == (1, [160, 80], [80, 40])
    assert (header["state"], header["roi_px"], header["coil"]) == ("defect", [1, 2, 3, 4], "B1")
    assert header["age_ms"] >= 5
    assert message.body[:2] == b"\xff\xd8"


def test_a_picture_is_encoded_once_for_all_viewers(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clients that want the same size share it."""
    made: list[int] = []
    jpeg = frame_messages.jpeg

    def count(pixels: Any, longest_px: int) -> Any:
        made.append(longest_px)
        return jpeg(pixels, longest_px)

    monkeypatch.setattr(frame_messages, "jpeg", count)
    with scene.client() as one, scene.client() as other:
        one.want({"top": FAST})
        until(lambda: scene.tap.wanted == {"top": 10.0})
        other.want({"top": FAST, "mark": FAST})
        until(lambda: len(scene.tap.wanted) == 2)
        scene.offer()
        assert one.next("frame").header["number"] == other.next("frame").header["number"] == 1
    assert made == [1600]


def test_unscaled_frames_come_as_they_are(scene: Scene) -> None:
    """As many as were wanted; every byte is the camera's."""
    with scene.client() as client:
        client.want(raw={"top": 2})
        until(lambda: scene.tap.wanted)
        for _ in range(2):
            scene.offer()
        frames = [client.next("raw") for _ in range(2)]
    for frame in frames:
        assert frame.header["size_px"] == [160, 80]
        assert frame.body == bytes([frame.header["number"] % 256]) * (160 * 80)


def test_a_slow_client_gets_the_newest_frame(scene: Scene) -> None:
    """What it did not take is replaced; the other client does not wait for it."""
    with scene.client(receive_bytes=4096) as slow, scene.client() as quick:
        for client in (slow, quick):
            client.want({"top": FAST})
        until(lambda: scene.tap.wanted)
        seen, noise = [], np.random.default_rng(7).integers(0, 256, (400, 1600), np.uint8)
        for _ in range(6):
            scene.offer(pixels=noise)
            seen.append(quick.next("frame").header["number"])
        found = [slow.next("frame").header["number"]]
        while found[-1] < seen[-1]:
            found.append(slow.next("frame").header["number"])
    assert len(found) < len(seen)


def test_a_client_that_takes_nothing_is_let_go(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue of events is bounded: it reads the outbox after it has connected again."""
    monkeypatch.setattr(page_client, "MAX_QUEUED", 50)
    with scene.client(receive_bytes=4096) as slow, scene.client() as quick:
        for _ in range(30):
            seqs = [scene.store("image.bad", fill="x" * 3000) for _ in range(10)]
            assert [quick.next("event").header["seq"] for _ in seqs] == seqs
        received = slow.all_until_end()
    assert slow.is_closed
    assert len(received) < 300


def test_too_many_clients_are_refused(scene: Scene) -> None:
    """Politely; the others are served, and a place that becomes free is given away."""
    clients = [scene.client() for _ in range(page_output.MAX_CLIENTS)]
    with PageClient(scene.path) as refused:
        assert "connected already" in refused.next("bye").header["reason"]
    clients.pop().close()

    def is_greeted() -> bool:
        with PageClient(scene.path) as client:
            try:
                client.next("hello")
            except EOFError:
                return False
            return True

    until(is_greeted)
    for client in clients:
        client.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 64,
        b"GET / HTTP/1.1\r\n\r\n",
        _framed(b"[" * 40_000),
        _framed(b'{"kind":"x"}'),
        _framed(b'{"kind":"want","cameras":{"top":{"max_fps":"no"}}}'),
    ],
)
def test_what_is_no_want_ends_the_connection(scene: Scene, data: bytes) -> None:
    """The feed goes on for the others."""
    with scene.client() as other, scene.client() as rude:
        rude.send_bytes(data)
        rude.all_until_end()
        scene.store("node.started")
        assert other.next("event").header["payload"]["type"] == "node.started"


def test_wants_are_kept_within_limits(scene: Scene) -> None:
    """Ten frames a second are the most, whatever is asked for; an unknown camera costs nothing."""
    with scene.client() as client:
        client.send({"kind": "want", "cameras": {"top": {"max_fps": 1e9, "longest_px": 1}, "other": {}}})
        until(lambda: scene.tap.wanted == {"top": 10.0, "other": 5.0})


def test_a_stop_says_goodbye_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Also with clients that do not read; every descriptor is closed."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    scene = Scene(tmp_path)
    scene.output.start()
    with scene.client() as one, scene.client(receive_bytes=4096):
        one.want({"top": FAST})
        until(lambda: scene.tap.wanted)
        scene.output.ask_stop(0.2)
        assert scene.output.stop(0.2)
        assert one.next("bye")
    assert not scene.tap.wanted
    scene.outbox.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_signs_of_the_page_process_are_kept(scene: Scene) -> None:
    """Its supervisor reads them; without a feed they mean nothing."""
    assert scene.life.listens_since_ns is not None
    with scene.client() as client:
        sign = PageSign(77, "http://127.0.0.1:8480/", None, 2)
        client.send(sign.header())
        until(lambda: scene.life.last)
        assert scene.life.last is not None
        assert scene.life.last[0] == sign
        until(lambda: scene.life.clients == 1)
    assert scene.output.stop(1.0)
    assert scene.life.listens_since_ns is None


def test_log_records_go_to_the_page_process_and_to_nobody_else(scene: Scene) -> None:
    """Also those from before it has connected; the handler leaves with the output."""
    log = logging.getLogger("edge.camera.test_output")
    log.warning("no signal from rtsp://admin:hunter2@10.0.0.7/stream")
    with PageClient(scene.path) as page, PageClient(scene.path) as other:
        other.want()
        page.send(PageSign(77).header())
        first = page.next("log").header["records"]
        log.warning("and another")
        assert page.next("log").header["records"][-1]["message"] == "and another"
        assert any("no signal" in one["message"] for one in first)
        assert "hunter2" not in str(first)
        scene.output.stop(1.0)
        assert "log" not in {message.kind for message in other.all_until_end()}
    assert not [one for one in logging.getLogger().handlers if isinstance(one, LogRing)]
