"""Text from outside, pushed through every entrance: nothing raises, all of it can be sent, and no terminal obeys it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from fakes.bundles import card, write_bundle
from fakes.clock import FakeClock
from fakes.inspection import Scene
from fakes.networks import network
from fakes.outbox import open_outbox
from hypothesis import given
from hypothesis import strategies as st
from tornado.httputil import RequestStartLine

from edge import config
from edge.camera.child import Child
from edge.camera.notices import NoticeQueue
from edge.camera.recordings import iter_recording
from edge.camera.ring import Note, Received, RingReader, RingWriter, cut, open_ring
from edge.camera.sources.contract import SourceSpec, Unreadable
from edge.camera.sources.files import ImageSource
from edge.camera.supervised_camera import DEFAULT_LIMITS, SupervisedCamera
from edge.cli.events import _event_line, _json_line
from edge.cli.exit_codes import exits_with_reason
from edge.cli.progress import echo, note
from edge.control.mqtt_commands import Commands
from edge.coverage.coil_store import CoilStore
from edge.delivery.mqtt.line_signals import LineSignals
from edge.delivery.mqtt.messages import Messages
from edge.delivery.mqtt.notices import Received as MqttMessage
from edge.delivery.mqtt.topics import Topics
from edge.delivery.outbox.rows import Draft
from edge.delivery.sequence_audit import SequenceAudit
from edge.delivery.sparkplug.edge_node import EdgeNode, Identity
from edge.delivery.sparkplug.payload import DataType, Metric, Payload, encode
from edge.errors import BundleError, ConfigError, DefectdError, PayloadError
from edge.event import Origin, as_json
from edge.host.clock import SystemClock
from edge.host.logs import _Json, _Plain
from edge.model import bundle
from edge.monitoring.http_server import HttpServer
from edge.monitoring.route import Response, Route

NETWORK = network()
PIECES = (
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\0",
    "\n",
    "\r\n",
    "\t",
    "\udcfc",
    "\ud800",
    "\udfff\ud800",
    "\u202egnp",
    "\u2066",
    "\u2028",
    "\ufeff",
    "\U000e0041",
    "פלדה",
    "鋼",
    "\U0001f4a9",
    "%s%n",
    "${HOME}",
    "{0}",
    "../",
    '"',
    "\\",
    "\\u0000",
    "1e5",
    "true",
    "null",
    "2048E1",
    "[" * 2000,
    "~nobody-of-that-name/",
    "mqtt://u:secret@h",
)
HOSTILE = st.lists(st.sampled_from(PIECES) | st.text(st.characters(), max_size=20), max_size=8).map("".join)
LONG = ("x" * 65_536, "\udcfc" * 65_536, "\x1b[31m" * 13_108, "\0" * 65_536, "ש" * 65_536, "[" * 65_536)


def drawn(rng: random.Random) -> str:
    """A hostile text; one in two hundred has 64 KiB."""
    if rng.random() < 0.005:
        return rng.choice(LONG)
    spans = ((0, 0x20), (0x20, 0x7F), (0x7F, 0x100), (0x590, 0x700), (0x2000, 0x2070), (0xD800, 0xE000), (0, 0x110000))
    return "".join(
        rng.choice(PIECES) if rng.random() < 0.4 else chr(rng.randrange(*rng.choice(spans)))
        for _ in range(rng.randrange(12))
    )


def raw(text: str) -> bytes:
    """The bytes that a file name, a payload or a zip may have: half a character and lone bytes included."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)


def check_shown(text: str, *, newlines: bool = True) -> None:
    """No character of it acts on a terminal."""
    text.encode("utf-8")
    kept = "\n\t" if newlines else "\t"
    assert not [c for c in text if (ord(c) < 32 and c not in kept) or 127 <= ord(c) < 160 or 0x202A <= ord(c) <= 0x202E]


class Entrances:
    """A node in parts: every place where text from outside comes in, and what it reaches from there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.scene = Scene({"name": "top"}, travel={"topic": "plant/drive", "coil_topic": "plant/coil"})
        self.topics = Topics("defectd", "line3")
        self.outbox = open_outbox(folder)
        self.messages = Messages(self.topics, "1")
        self.coils = CoilStore(folder / "coil.json", self.clock)
        self.signals = LineSignals(config.Travel(topic="plant/drive", coil_topic="plant/coil"), self.clock)
        self.replies: list[dict[str, Any]] = []
        self.commands = Commands(self.topics, config.Commands(allow=["coil", "ping"]), ["top"], self.clock)
        self.commands.attach(lambda _topic, message, _data: self.replies.append(message), vars)
        self.log = Log()
        logging.getLogger("edge").addHandler(self.log)
        ours, self.theirs, memory = open_ring()
        self.memory = os.dup(memory)
        self.reader = RingReader("top", ours, memory)
        self.writer = RingWriter(self.theirs, self.memory, SystemClock(), slots=4, live=False)
        self.pixels = np.ones((4, 4), np.uint8)
        self.bundle = write_bundle(folder / "bundle", NETWORK, card(NETWORK))
        with zipfile.ZipFile(folder / "b.zip", "w") as archive:
            archive.write(self.bundle / bundle.CARD, bundle.CARD)
            archive.writestr("NAME" * 25, b"")
        self.zip = (folder / "b.zip").read_bytes()
        self.audit = SequenceAudit()
        self.edge_node = EdgeNode(
            Identity("plant", "line3", ("top",), "scada"), self.clock, settle_ns=1, bd_seq=None, settled_seq=0
        )
        self.edge_node.connect()
        self.edge_node.connected(None)
        self.server = HttpServer(("127.0.0.1", 0), self.clock)
        self.server._routes = {
            "/seen": Route(lambda request: Response.text(HTTPStatus.OK, repr(request.query)), is_quick=True)
        }
        self.seq = 0

    def close(self) -> None:
        logging.getLogger("edge").removeHandler(self.log)
        self.reader.close()
        self.theirs.close()
        os.close(self.memory)
        self.outbox.close()

    def push(self, text: str) -> None:
        """Through every entrance."""
        self.frame_label(text)
        self.camera_process(text)
        self.file_names(text)
        self.line_signals(text)
        self.mqtt_commands(text)
        self.zip_member(text)
        self.model_card(text)
        self.configuration(text)
        self.foreign_event(text)
        self.sparkplug(text)
        self.http(text)
        self.terminal(text)
        self.deliver()

    # ---- entrances -------------------------------------------------------------------------------------

    def received(self, kind: type) -> Any:
        while True:
            message = self.reader.receive()
            assert message is not None
            if isinstance(message, kind) and getattr(message, "kind", "") != "ring":
                return message

    def frame_label(self, text: str) -> None:
        self.writer.put(self.pixels, self.scene.clock.monotonic_ns(), 0, text)
        got = self.received(Received)
        check_shown(got.frame.label, newlines=False)
        self.scene.cameras.give(got.frame)
        self.scene.loop.turn()
        self.scene.clock.advance(1)
        self.reader.release(got.slot)

    def camera_process(self, text: str) -> None:
        settings = config.Camera.model_validate({"name": "top", "source": "strip:"})
        lock = threading.Condition()
        notices = NoticeQueue(lock)
        camera = SupervisedCamera(settings, notices, self.clock, DEFAULT_LIMITS, lambda: 0.5, logging.getLogger("edge"))
        process: Any = SimpleNamespace(returncode=1)
        child = Child(process, self.reader, BytesIO(), "strip:", 0)
        actual = {"backend": text[:500], "pixel_format": text[:500]}
        self.writer.send_note("error", message=cut(text))
        self.writer.send_note("discarded", count=1, reason="unreadable", detail=cut(text))
        self.writer.send_note("opened", actual=actual)
        with lock:
            for _ in range(3):
                camera.accept_note(child, self.received(Note))
            camera.report_lost(child.reason, 0)
            camera.report_lost(f"it ended: {child._clean(raw(text))}", 0)
        assert camera.actual is not None
        self.scene.note(*notices.take(), self.scene.opened())
        for value in texts([camera.actual.as_json(), self.scene.states[-2:]]):
            check_shown(value, newlines=False)

    def file_names(self, text: str) -> None:
        name = raw(text).replace(b"\0", b"").replace(b"/", b"")[:200] + b".png"
        place = os.fsencode(self.folder / "pictures")
        (self.folder / "pictures").mkdir(exist_ok=True)
        for content in (b"", PNG):
            with open(os.path.join(place, name), "wb") as file:  # noqa: PTH118, PTH123 (names are bytes)
                file.write(content)
            for found in iter_recording(self.folder / "pictures"):
                check_shown(found.label, newlines=False)
                if isinstance(found, Unreadable):
                    check_shown(str(found.error), newlines=False)
        if not name.startswith(b"."):
            check_shown(ImageSource(SourceSpec(str(self.folder / "pictures")), self.clock).read().label)
        shutil.rmtree(place)
        for path in (text, os.fsdecode(name), f"{text}*"):
            for found in iter_recording(f"{self.folder}/none/{path}"):
                assert isinstance(found, Unreadable)
                check_shown(str(found.error), newlines=False)

    def line_signals(self, text: str) -> None:
        for payload in (raw(text), json.dumps(text).encode(), json.dumps({text: text}).encode()):
            self.signals.take(MqttMessage("plant/coil", payload, 1, False))
            self.signals.take(MqttMessage("plant/drive", payload, 1, False))
        self.scene.updates.extend(self.signals.updates())
        self.scene.loop.turn()

    def mqtt_commands(self, text: str) -> None:
        fields = {"id": text, "coil": text, "action": "start"}
        for payload in (raw(text), json.dumps(fields).encode(), json.dumps({"coil": "a", text: text}).encode()):
            for topic in ("coil", "ping", raw(text).decode("utf-8", "replace")):
                for reply_to in (None, text):
                    received = MqttMessage(self.topics.command(topic), payload, 1, False, response_topic=reply_to)
                    self.commands._handle(received)

    def zip_member(self, text: str) -> None:
        name = raw(text)[:100].ljust(100, b"_")
        where = self.folder / "hostile.zip"
        where.write_bytes(self.zip.replace(b"NAME" * 25, name))
        self.refused(lambda: bundle.load(where))
        flagged = bytearray(self.zip.replace(b"NAME" * 25, name))
        for mark, at in ((b"PK\x01\x02", 9), (b"PK\x03\x04", 7)):
            start = -1
            while (start := flagged.find(mark, start + 1)) >= 0:
                flagged[start + at] |= 8  # its flag says: this name is UTF-8
        where.write_bytes(flagged)
        self.refused(lambda: bundle.load(where))

    def model_card(self, text: str) -> None:
        changed = card(NETWORK, name=text, classes=(text, *card(NETWORK)["classes"][1:]))
        (self.bundle / bundle.CARD).write_text(json.dumps({**changed, text: 1} if text[:1] == "x" else changed))
        self.refused(lambda: bundle.load(self.bundle))

    def refused(self, load: Any) -> None:
        try:
            loaded = load()
        except BundleError as error:
            check_shown(str(error), newlines=False)
        else:
            check_shown(loaded.card.name + "".join(loaded.card.classes), newlines=False)

    def configuration(self, text: str) -> None:
        base: dict[str, Any] = {"node": "line3", "cameras": [{"name": "top", "source": "strip:"}]}
        for change in (
            {text: 1},
            {"node": text},
            {"state_dir": text},
            {"node": "${HOSTILE}"},
            {"cameras": [{"name": "top", "source": "rtsp://u:${HOSTILE}@h/x?key=${HOSTILE}"}]},
            {"mqtt": {"broker": text, "topic_prefix": text}},
            {"cameras": [{"name": text, "source": text, text: text}]},
        ):
            try:
                config.parse({**base, **change}, origin="test", base=self.folder, env={"HOSTILE": text})
            except ConfigError as error:
                self.messages.retain("problem", {"reason": str(error)})
                for problem in error.problems:
                    problem.key.encode("utf-8")
                    check_shown(problem.key, newlines=False)
                self.terminal(str(error))

    def foreign_event(self, text: str) -> None:
        event = {
            "time": "2026-11-29T00:00:00",
            "seq": 1,
            "camera": text,
            "type": text,
            "node": text,
            "event_id": text,
            "defect": {"box_px": [1, 2, 3, 4], "class": text, "confidence": 10**400, "coil": text},
            "detail": {text: text},
        }
        plain = {**event, "defect": {**event["defect"], "confidence": 0.5}}  # type: ignore[dict-item]
        for payload in (
            raw(text),
            *(
                json.dumps(e, ensure_ascii=a).encode("utf-8", "surrogatepass")
                for e in (event, plain)
                for a in (True, False)
            ),
        ):
            check_shown(_event_line(payload), newlines=False)
            check_shown(_json_line(payload), newlines=False)
            json.loads(_json_line(payload))
            try:
                self.terminal(self.audit.add(payload).remark or "")
            except PayloadError as error:
                self.terminal(str(error))

    def sparkplug(self, text: str) -> None:
        """A command and a host's state, whole and damaged, and a camera whose state is such a text."""
        metric = Metric(name=text, datatype=DataType.STRING, value=text)
        for payload in (raw(text), encode(Payload(None, (metric,))), json.dumps({"online": text, text: 1}).encode()):
            for topic in ("spBv1.0/plant/NCMD/line3", "spBv1.0/plant/DCMD/line3/top", "spBv1.0/STATE/scada", text):
                try:
                    self.edge_node.received(topic, payload)
                except PayloadError as error:
                    self.terminal(str(error))
        self.edge_node.camera_state("top", "running", text)
        self.edge_node.answered()
        self.edge_node.tick()
        self.edge_node.take()

    def http(self, text: str) -> None:
        """A path, a query and a method."""
        target = raw(text).decode("latin-1")
        for method, path in (("GET", f"/{target}"), ("GET", f"/seen?{target}"), (target, "/seen")):
            response = asyncio.run(self.server._response_to(RequestStartLine(method, path, "HTTP/1.1")))
            assert response.status in (200, 400, 404, 405)
            check_shown(response.body.decode("utf-8"), newlines=True)

    def terminal(self, text: str) -> None:
        @click.command()
        @exits_with_reason
        def fail() -> None:
            note(text)
            echo(text)
            raise DefectdError(text)

        done = CliRunner().invoke(fail)
        assert done.exit_code == 1
        check_shown(done.stdout + done.stderr)
        record = logging.LogRecord("edge.x", logging.INFO, "x", 1, "%s", (text,), None)
        check_shown(_Plain().format(record))
        json.loads(_Json().format(record)[3:])

    # ---- what they reach -------------------------------------------------------------------------------

    def deliver(self) -> None:
        """The events and states go where the daemon sends them."""
        events, states = self.scene.events[:], self.scene.states[:]
        self.scene.events.clear()
        self.scene.states.clear()
        self.scene.coverage.clear()
        self.scene.reports.clear()
        self.scene.cameras.released.clear()
        self.coils.record(events)
        drafts = [Draft(self.topics.event(e.camera), as_json(e, ORIGIN), e.event_id) for e in events]
        for draft in drafts:
            for value in texts(draft.payload):
                value.encode("utf-8")
        self.outbox.append(drafts)  # strictly: the recorder would repair it, and that must not be needed
        for name, state in states:
            assert self.messages.retain(f"state/{name}", state)
            for value in texts(state):
                value.encode("utf-8")
        for reply in self.replies:
            for value in texts(reply):
                value.encode("utf-8")
        self.replies.clear()
        while self.messages.next() is not None:
            pass
        for line in self.log.take():
            check_shown(line)


class Log(logging.Handler):
    """Keeps what would stand on a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_Plain())
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        assert record.exc_info is None, self.format(record)
        self._lines.append(self.format(record))

    def take(self) -> list[str]:
        taken, self._lines = self._lines, []
        return taken


ORIGIN = Origin("line3", "boot", {"name": "m", "version": "1", "sha256": "0"}, "0")
PNG = cv2.imencode(".png", np.full((8, 8), 90, np.uint8))[1].tobytes()


@pytest.fixture(scope="module")
def entrances() -> Iterator[Entrances]:
    folder = Path(tempfile.mkdtemp(prefix="defectd-test-"))
    made = Entrances(folder)
    yield made
    made.close()
    shutil.rmtree(folder)


@pytest.mark.parametrize("text", [*PIECES, *LONG], ids=range(len(PIECES) + len(LONG)))
def test_known_hostile_text_harms_nothing(entrances: Entrances, text: str) -> None:
    """Escapes, NUL, half characters, turns of direction, 64 KiB."""
    entrances.push(text)


@given(HOSTILE)
def test_any_text_harms_nothing(entrances: Entrances, text: str) -> None:
    """Whatever comes in, events and states can be sent, and no terminal acts on it."""
    entrances.push(text)


@pytest.mark.soak
def test_ten_thousand_texts_harm_nothing(entrances: Entrances) -> None:
    """The same for a long time."""
    seed = int(os.environ.get("SEED", "1"))
    rng = random.Random(seed)
    for number in range(10_000):
        text = drawn(rng)
        try:
            entrances.push(text)
        except Exception as error:
            raise AssertionError(f"seed {seed}, text {number}: {text[:200]!r}") from error
