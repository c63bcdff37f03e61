"""The Sparkplug edge node in scripted scenes, with a fake clock.  Requirements: Sparkplug 3.0."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.sparkplug_host import StrictHost
from hypothesis import given
from hypothesis import strategies as st

from edge.delivery.outbox.rows import Row
from edge.delivery.output import CameraReport
from edge.delivery.sparkplug.edge_node import (
    DEVICE_METRICS,
    NODE_METRICS,
    REBIRTH,
    REBIRTH_S,
    WINDOW,
    Counts,
    EdgeNode,
    Fence,
    Identity,
    Leave,
    Publish,
)
from edge.delivery.sparkplug.payload import (
    BAD,
    GOOD,
    STALE,
    DataType,
    Metric,
    Payload,
    decode,
    encode,
)
from edge.errors import PayloadError
from edge.host.clock import NS_PER_MS, NS_PER_S, stamp

SETTLE_S = 60.0
HOST = "scada1"
STATE = f"spBv1.0/STATE/{HOST}"
NCMD = "spBv1.0/plant/NCMD/line3"
COVERAGE = {
    "since_start": {
        "frames": {"ok": 7, "defect": 1, "unsure": 0, "bad_image": 0, "late": 2, "dropped": 0},
        "tiles": {"inspected": 90, "skipped": 4},
        "no_signal_s": 1.5,
    }
}


class Scene:
    """A node, a strict host, an outbox, and a broker that answers fences unless it is silenced."""

    def __init__(self, host: str | None = None, *, legacy: bool = False) -> None:
        self.clock = FakeClock()
        self.identity = Identity("plant", "line3", ("top", "bottom"), host, legacy)
        self.bd_seq: int | None = None
        self.settled_seq = 0
        self.rows: list[Row] = []
        self.host = StrictHost("plant", "line3")
        self.answers = True
        self.left: list[str] = []
        self.fences = 0
        self.restart()

    def restart(self) -> None:
        """A new process: only what was durable is known."""
        self.node = EdgeNode(
            self.identity,
            self.clock,
            settle_ns=int(SETTLE_S * NS_PER_S),
            bd_seq=self.bd_seq,
            settled_seq=self.settled_seq,
        )

    def connect(self, packet_limit: int | None = None) -> Payload:
        will = self.node.connect()
        self.bd_seq = self.node.bd_seq
        self.node.connected(packet_limit)
        self.perform()
        self.node.answered()
        self.perform()
        return decode(will.payload)

    def perform(self) -> None:
        for action in self.node.take():
            if isinstance(action, Publish):
                self.host.receive(action.topic, action.payload)
            elif isinstance(action, Leave):
                self.left.append(action.reason)
            elif isinstance(action, Fence):
                self.fences += 1
                if self.answers:
                    self.node.answered()

    def turn(self, seconds: float = 0.0) -> None:
        """As the thread does it: learn, send, tick."""
        self.clock.advance(seconds)
        self.node.learn([row for row in self.rows if row.seq > self.node.known_seq])
        while True:
            before = self.node.sent_seq
            room = self.node.room()
            if room:
                self.node.send([row for row in self.rows if row.seq > before][:room])
            self.perform()
            self.node.tick()
            self.perform()
            if self.node.sent_seq == before:
                break
        self.settled_seq = self.node.settled_seq

    def live(self, camera: str = "top") -> None:
        self.node.camera_state(camera, "running", None)
        self.perform()

    def event(self, camera: str = "top", kind: str = "defect.opened", **defect: Any) -> Row:
        seq = 1 + (self.rows[-1].seq if self.rows else 0)
        body = None
        if kind.startswith("defect"):
            body = {"track_id": f"t{seq}", "class": "scratches", "confidence": 0.9, "box_px": [-1, 2, 3, 4], **defect}
        payload = {"camera": camera, "type": kind, "time": stamp(self.clock.wall_ns()), "seq": seq, "defect": body}
        topic = f"defectd/line3/{camera}/event"
        row = Row(seq, f"id{seq}", topic, "info", json.dumps(payload).encode(), self.clock.wall_ns())
        self.rows.append(row)
        return row

    def host_state(self, *, online: bool, timestamp: int) -> None:
        self.node.received(STATE, json.dumps({"online": online, "timestamp": timestamp}).encode())
        self.perform()

    def ask_rebirth(self) -> None:
        metric = Metric(REBIRTH, DataType.BOOLEAN, value=True)
        self.node.received(NCMD, encode(Payload(1, (metric,))))
        self.perform()

    def now_ms(self) -> int:
        return self.clock.wall_ns() // NS_PER_MS

    def check(self) -> None:
        assert not self.host.faults, self.host.faults


@pytest.fixture
def scene() -> Any:
    scene = Scene()
    yield scene
    scene.check()


# ---- births and deaths ----------------------------------------------------------------------------------------


def test_will_is_an_ndeath_with_bdseq_only(scene: Scene) -> None:
    """tck-id-topics-ndeath-payload, tck-id-topics-ndeath-seq, tck-id-payloads-ndeath-bdseq."""
    will = scene.node.connect()
    assert will.topic == "spBv1.0/plant/NDEATH/line3"
    payload = decode(will.payload)
    assert payload.seq is None
    assert [(m.name, m.datatype, m.value) for m in payload.metrics] == [("bdSeq", DataType.INT64, 0)]


def test_nothing_is_published_before_the_subscription_is_answered(scene: Scene) -> None:
    """tck-id-message-flow-edge-node-birth-publish-connect, tck-id-message-flow-edge-node-ncmd-subscribe."""
    scene.node.connect()
    scene.turn()
    scene.node.connected()
    scene.turn()
    assert scene.host.messages == []
    assert NCMD in scene.identity.filters
    scene.node.answered()
    scene.perform()
    assert scene.host.verbs() == ["NBIRTH"]


def test_nbirth_holds_every_metric_of_the_node(scene: Scene) -> None:
    """tck-id-topics-nbirth-metric-reqs, tck-id-operational-behavior-data-publish-nbirth."""
    scene.connect()
    birth = scene.host.messages[0]
    assert set(birth.names()) == {*NODE_METRICS, "bdSeq", REBIRTH}
    assert birth.payload.timestamp_ms == scene.now_ms()


def test_nbirth_repeats_the_bdseq_of_the_will(scene: Scene) -> None:
    """tck-id-topics-nbirth-bdseq-matching, tck-id-payloads-nbirth-bdseq-repeat."""
    for expected in (0, 1, 2):
        will = scene.connect()
        assert will.metrics[0].value == expected
        assert scene.host.messages[-1]["bdSeq"].value == expected
        scene.node.lost()


def test_rebirth_metric_is_false_and_has_no_alias(scene: Scene) -> None:
    """tck-id-operational-behavior-data-commands-rebirth-name, -name-aliases, -datatype, -value."""
    scene.connect()
    metric = scene.host.messages[0][REBIRTH]
    assert (metric.datatype, metric.value, metric.alias) == (DataType.BOOLEAN, False, None)


def test_bdseq_survives_restarts_and_returns_to_zero_after_255(scene: Scene) -> None:
    """tck-id-topics-nbirth-bdseq-increment, tck-id-message-flow-edge-node-birth-publish-will-message-payload-bdSeq."""
    seen = []
    for _ in range(258):
        seen.append(scene.connect().metrics[0].value)
        scene.restart()
    assert seen == [*range(256), 0, 1]


def test_bdseq_rises_for_each_connect_even_when_it_fails(scene: Scene) -> None:
    """tck-id-topics-nbirth-bdseq-increment: one for each CONNECT packet, not one for each birth."""
    assert [decode(scene.node.connect().payload).metrics[0].value for _ in range(3)] == [0, 1, 2]


def test_dbirths_follow_the_nbirth_before_any_data(scene: Scene) -> None:
    """tck-id-payloads-dbirth-order, tck-id-payloads-ndata-order, tck-id-payloads-ddata-order."""
    scene.live("top")
    scene.live("bottom")
    scene.event()
    scene.node.node_values({"Outbox/Depth": 3})
    scene.connect()
    scene.event()
    scene.turn()
    assert scene.host.verbs()[:3] == ["NBIRTH", "DBIRTH top", "DBIRTH bottom"]
    assert {verb.split()[0] for verb in scene.host.verbs()[3:]} == {"NDATA", "DDATA"}
    assert [h.payload.seq for h in scene.host.messages[:4]] == [0, 1, 2, 3]


def test_dbirth_holds_every_metric_of_the_device(scene: Scene) -> None:
    """tck-id-topics-dbirth-metric-reqs, tck-id-topics-dbirth-metrics."""
    scene.live()
    scene.connect()
    birth = scene.host.messages[1]
    assert birth.verb == "DBIRTH"
    assert set(birth.names()) == set(DEVICE_METRICS)


def test_aliases_are_unique_over_node_and_devices(scene: Scene) -> None:
    """tck-id-payloads-alias-uniqueness, tck-id-payloads-alias-birth-requirement."""
    scene.live("top")
    scene.live("bottom")
    scene.connect()
    aliases = [m.alias for h in scene.host.messages for m in h.payload.metrics if m.alias is not None]
    assert len(aliases) == len(set(aliases)) == len(NODE_METRICS) + 2 * len(DEVICE_METRICS)


def test_metric_names_differ_by_more_than_case(scene: Scene) -> None:
    """tck-id-case-sensitivity-metric-names, and no folder is a metric as well."""
    for names in (NODE_METRICS, DEVICE_METRICS):
        assert len({name.lower() for name in names}) == len(names)
        folders = {name.rsplit("/", 1)[0] for name in names if "/" in name}
        assert not folders & set(names)


def test_only_cameras_with_a_picture_are_born(scene: Scene) -> None:
    """tck-id-operational-behavior-device-ddeath: a device that is not there has no birth."""
    scene.live("top")
    scene.node.camera_state("bottom", "no_signal", "opening")
    scene.connect()
    assert scene.host.verbs() == ["NBIRTH", "DBIRTH top"]


def test_camera_lost_is_a_ddeath_and_back_a_dbirth(scene: Scene) -> None:
    """tck-id-operational-behavior-device-ddeath, tck-id-topics-ddeath-seq-num, tck-id-payloads-ddeath-timestamp."""
    scene.live()
    scene.connect()
    scene.node.camera_state("top", "no_signal", "unplugged")
    scene.perform()
    death = scene.host.messages[-1]
    assert (death.verb, death.device, death.payload.seq) == ("DDEATH", "top", 2)
    scene.node.camera_report(CameraReport("top", 0.0, 0.0, 0.0, COVERAGE))
    scene.turn(10)
    assert scene.host.messages[-1] is death
    scene.live()
    assert scene.host.verbs()[-1] == "DBIRTH top"
    assert scene.host.value("Frames/OK", "top") == 7
    assert scene.host.value("State Reason", "top") == ""


@pytest.mark.parametrize("state", ["running", "frozen", "bad_image"])
def test_a_camera_that_delivers_pictures_lives(scene: Scene, state: str) -> None:
    """tck-id-operational-behavior-device-ddeath: a bad picture is a picture: bad quality, not a death."""
    scene.connect()
    scene.node.camera_state("top", state, "why")
    scene.perform()
    assert scene.host.verbs()[-1] == "DBIRTH top"
    assert scene.host.value("State", "top") == state


def test_seq_runs_over_all_messages_and_returns_to_zero_after_255(scene: Scene) -> None:
    """tck-id-payloads-sequence-num-incrementing: no hole in 600 messages."""
    scene.live()
    scene.connect()
    for number in range(300):
        scene.node.node_values({"Outbox/Depth": number})
        scene.node.camera_report(CameraReport("top", float(number), 1.0, 2.0, COVERAGE))
        scene.turn(10)
    seqs = [h.payload.seq for h in scene.host.messages]
    assert seqs == [number % 256 for number in range(len(seqs))]
    assert len(seqs) > 600


def test_stop_publishes_ndeath_and_leaves(scene: Scene) -> None:
    """tck-id-operational-behavior-edge-node-intentional-disconnect-ndeath."""
    scene.live()
    scene.connect()
    scene.node.leave("stopped")
    scene.perform()
    assert scene.host.verbs()[-1] == "NDEATH"
    assert scene.left == ["stopped"]
    assert scene.host.alive == set()
    scene.event()
    scene.turn(10)
    assert scene.host.verbs()[-1] == "NDEATH"


# ---- data by exception ----------------------------------------------------------------------------------------


def test_data_has_aliases_and_no_names(scene: Scene) -> None:
    """tck-id-payloads-alias-data-cmd-requirement, tck-id-payloads-metric-datatype-not-req."""
    scene.connect()
    scene.node.node_values({"Outbox/Depth": 4})
    scene.node.tick()
    (action,) = scene.node.take()
    assert isinstance(action, Publish)
    (metric,) = decode(action.payload).metrics
    assert (metric.name, metric.datatype, metric.value) == (None, None, 4)
    assert metric.alias is not None
    scene.host.receive(action.topic, action.payload)


def test_unchanged_values_are_not_sent(scene: Scene) -> None:
    """tck-id-operational-behavior-data-publish-nbirth-change, -dbirth-change: the same report twice is one DDATA."""
    scene.live()
    scene.connect()
    for _ in range(3):
        scene.node.camera_report(CameraReport("top", 30.0, 1.0, 2.0, COVERAGE))
        scene.node.node_values({"Outbox/Depth": 0})
        scene.turn(10)
    assert scene.host.verbs() == ["NBIRTH", "DBIRTH top", "NDATA", "DDATA top"]


def test_a_value_that_changed_back_before_it_was_sent_is_not_sent(scene: Scene) -> None:
    """tck-id-topics-ndata-payload: only what differs from what the host has."""
    scene.node.node_values({"Outbox/Depth": 0})
    scene.connect()
    scene.node.node_values({"Outbox/Depth": 5})
    scene.node.node_values({"Outbox/Depth": 0})
    scene.turn()
    assert scene.host.verbs() == ["NBIRTH"]


def test_metrics_are_in_the_order_of_their_times(scene: Scene) -> None:
    """tck-id-operational-behavior-data-publish-nbirth-order, -dbirth-order; the strict host checks every message."""
    scene.live()
    scene.node.node_values({"Outbox/Depth": 1})
    scene.clock.advance(5)
    scene.node.node_values({"Properties/Version": "1"})
    scene.connect()
    scene.clock.advance(1)
    scene.node.node_values({"Properties/Version": "2"})
    scene.clock.advance(1)
    scene.node.node_values({"Outbox/Depth": 2, "Model/Name": "student"})
    scene.turn()
    assert scene.host.messages[-1].names() == ["Properties/Version", "Outbox/Depth", "Model/Name"]


def test_values_that_were_never_set_are_null_and_stale(scene: Scene) -> None:
    """tck-id-payloads-propertyset-quality-value-value: 500; and 192 once there is one."""
    scene.live()
    scene.connect()
    birth = scene.host.values["top", "FPS"]
    assert (birth.value, birth.quality) == (None, STALE)
    scene.node.camera_report(CameraReport("top", 30.0, 1.0, 2.0, COVERAGE))
    scene.turn()
    assert (scene.host.value("FPS", "top"), scene.host.values["top", "FPS"].quality) == (30.0, GOOD)
    scene.node.camera_report(CameraReport("top", 31.0, 1.0, 2.0, COVERAGE))
    scene.turn()
    assert scene.host.values["top", "FPS"].quality is None, "good is not repeated"


def test_defects_have_bad_quality_while_the_picture_is_bad(scene: Scene) -> None:
    """tck-id-payloads-propertyset-quality-value-type: BAD with the image, GOOD again after it."""
    scene.live()
    scene.connect()
    scene.event()
    scene.turn()
    assert scene.host.value("Last Defect/Class", "top") == "scratches"
    for state, quality in (("bad_image", BAD), ("running", GOOD)):
        scene.node.camera_state("top", state, "dark")
        scene.turn(1)
        assert scene.host.values["top", "Last Defect/Class"].quality == quality
        assert scene.host.values["top", "State"].quality in (None, GOOD)


def test_not_a_number_is_null(scene: Scene) -> None:
    """tck-id-topics-dbirth-metrics: a value that is not a number is null."""
    scene.live()
    scene.node.camera_report(CameraReport("top", float("nan"), float("inf"), 3, COVERAGE))
    scene.connect()
    assert [scene.host.value(name, "top") for name in ("FPS", "Latency/P50 ms", "Latency/P99 ms")] == [None, None, 3.0]


# ---- rebirth --------------------------------------------------------------------------------------------------


def test_rebirth_sends_all_births_with_the_same_bdseq(scene: Scene) -> None:
    """tck-id-operational-behavior-data-commands-rebirth-action-2, -action-3."""
    scene.live()
    scene.connect()
    scene.turn(10)
    scene.ask_rebirth()
    assert scene.host.verbs() == ["NBIRTH", "DBIRTH top", "NBIRTH", "DBIRTH top"]
    assert scene.host.messages[2]["bdSeq"].value == scene.host.messages[0]["bdSeq"].value
    assert scene.host.messages[2].payload.seq == 0


def test_no_data_between_the_request_and_the_birth(scene: Scene) -> None:
    """tck-id-operational-behavior-data-commands-rebirth-action-1: also while the birth waits for its turn."""
    scene.live()
    scene.connect()
    scene.ask_rebirth()
    scene.event()
    scene.node.node_values({"Outbox/Depth": 9})
    scene.turn(REBIRTH_S / 2)
    assert scene.host.verbs() == ["NBIRTH", "DBIRTH top"]
    scene.turn(REBIRTH_S / 2)
    assert scene.host.verbs()[2:4] == ["NBIRTH", "DBIRTH top"]
    assert scene.host.value("Outbox/Depth") == 9


def test_a_flood_of_requests_is_one_birth_at_a_time(scene: Scene) -> None:
    """tck-id-operational-behavior-data-commands-rebirth-action-2: a thousand requests in a second do no harm."""
    scene.connect()
    for _ in range(1000):
        scene.ask_rebirth()
        scene.turn(0.001)
    scene.turn(REBIRTH_S)
    scene.turn(REBIRTH_S)
    assert scene.host.verbs().count("NBIRTH") == 2


def test_a_stop_does_not_wait_for_the_interval_of_births(scene: Scene) -> None:
    """tck-id-operational-behavior-data-commands-rebirth-action-2: data that waits comes after the birth."""
    scene.connect()
    scene.event()
    scene.ask_rebirth()
    scene.turn()
    assert scene.host.events() == []
    scene.node.hurry()
    scene.turn()
    assert [seq for seq, _ in scene.host.events()] == [1]


@pytest.mark.parametrize(
    "metric",
    [
        Metric(REBIRTH, DataType.BOOLEAN, value=False),
        Metric(REBIRTH, DataType.INT32, 1),
        Metric(REBIRTH, DataType.STRING, "true"),
        Metric("Node Control/Reboot", DataType.BOOLEAN, value=True),
        Metric("Outbox/Depth", DataType.INT64, 0),
        Metric(None, None, value=True, alias=3),
    ],
)
def test_other_commands_are_refused_and_counted(scene: Scene, metric: Metric) -> None:
    """tck-id-operational-behavior-data-commands-ncmd-rebirth-name, -value: only that name with true."""
    scene.connect()
    scene.clock.advance(10)
    no_type = b"\x12\x04\x10\x03\x70\x01"
    data = encode(Payload(1, (metric,))) if metric.datatype else no_type
    scene.node.received(NCMD, data)
    scene.turn()
    assert scene.host.verbs() == ["NBIRTH"]
    assert scene.node.counts.commands_refused == 1


def test_invalid_commands_are_counted(scene: Scene) -> None:
    """tck-id-topics-ncmd-payload: garbage and device commands change nothing."""
    scene.connect()
    with pytest.raises(PayloadError):
        scene.node.received(NCMD, b"\xff\xff")
    scene.node.received("spBv1.0/plant/DCMD/line3/top", b"\xff")
    assert scene.node.counts.commands_refused == 2
    assert scene.host.verbs() == ["NBIRTH"]


# ---- the primary host -----------------------------------------------------------------------------------------


def test_births_wait_for_the_host() -> None:
    """tck-id-message-flow-edge-node-birth-publish-phid-wait, -wait-online."""
    scene = Scene(HOST)
    scene.live()
    scene.event()
    scene.connect()
    scene.turn(100)
    assert STATE in scene.identity.filters
    assert scene.host.messages == []
    scene.host_state(online=False, timestamp=5)
    scene.turn(1)
    assert scene.host.messages == []
    assert scene.left == [], "a session that has not started need not end"
    scene.host_state(online=True, timestamp=5)
    assert scene.host.verbs() == ["NBIRTH", "DBIRTH top"]
    scene.check()


def test_a_state_before_the_answer_to_the_subscription_counts() -> None:
    """tck-id-message-flow-edge-node-birth-publish-phid-wait: MQTT allows the message to overtake the SUBACK."""
    scene = Scene(HOST)
    scene.node.connect()
    scene.node.connected()
    scene.host_state(online=True, timestamp=5)
    assert scene.host.messages == []
    scene.node.answered()
    scene.perform()
    assert scene.host.verbs() == ["NBIRTH"]


def test_another_host_does_not_count() -> None:
    """tck-id-message-flow-edge-node-birth-publish-phid-wait-id."""
    scene = Scene(HOST)
    scene.connect()
    scene.node.received("spBv1.0/STATE/other", b'{"online":true,"timestamp":5}')
    scene.turn()
    assert scene.host.messages == []


def test_host_offline_ends_the_session() -> None:
    """tck-id-operational-behavior-edge-node-termination-host-offline: NDEATH, leave; then births wait again."""
    scene = Scene(HOST)
    scene.live()
    scene.connect()
    scene.host_state(online=True, timestamp=5)
    scene.host_state(online=False, timestamp=6)
    assert scene.host.verbs() == ["NBIRTH", "DBIRTH top", "NDEATH"]
    assert len(scene.left) == 1
    scene.node.lost()
    scene.connect()
    scene.host_state(online=False, timestamp=6)
    scene.turn(100)
    assert scene.host.verbs()[-1] == "NDEATH"
    scene.host_state(online=True, timestamp=7)
    assert scene.host.verbs()[3:] == ["NBIRTH", "DBIRTH top"]
    assert scene.host.bd_seq == 1
    scene.check()


def test_older_states_are_ignored() -> None:
    """tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp."""
    scene = Scene(HOST)
    scene.connect()
    scene.host_state(online=False, timestamp=100)
    scene.host_state(online=True, timestamp=99)
    assert scene.host.messages == []
    scene.host_state(online=True, timestamp=100)
    scene.host_state(online=False, timestamp=99)
    assert scene.host.verbs() == ["NBIRTH"]
    assert scene.left == []
    assert scene.node.counts.states_ignored == 2


def test_a_new_connection_takes_the_retained_state() -> None:
    """tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp: a clock set back shuts no host out."""
    scene = Scene(HOST)
    scene.connect()
    scene.host_state(online=True, timestamp=100)
    scene.node.lost()
    scene.connect()
    scene.host_state(online=True, timestamp=50)
    assert scene.host.verbs() == ["NBIRTH", "NBIRTH"]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"ONLINE",
        b"[]",
        b"null",
        b"{}",
        b'{"online":true}',
        b'{"online":"true","timestamp":5}',
        b'{"online":1,"timestamp":5}',
        b'{"online":true,"timestamp":"5"}',
        b'{"online":true,"timestamp":true}',
        b'{"online":true,"timestamp":1.5}',
        b'{"online":true,"timestamp":NaN}',
        b'{"online":true,"timestamp":' + b"9" * 5000 + b"}",
        b"[" * 4000,
        b"\xff\xfe",
        b'{"online":true,"timestamp":5}' + b" " * 5000,
    ],
)
def test_invalid_states_are_refused(payload: bytes) -> None:
    """tck-id-host-topic-phid-birth-payload: two keys, a boolean and a whole number, and nothing endless."""
    scene = Scene(HOST)
    scene.connect()
    with pytest.raises(PayloadError):
        scene.node.received(STATE, payload)
    assert scene.node.counts == Counts(states_ignored=1)


def test_legacy_state_is_text_on_its_own_topic() -> None:
    """tck-id-message-flow-edge-node-birth-publish-phid-wait as it was in 2.2: ONLINE or OFFLINE on STATE/HOST."""
    scene = Scene(HOST, legacy=True)
    assert scene.identity.filters[-1] == f"STATE/{HOST}"
    scene.connect()
    for payload in (b"online", b"", b'{"online":true,"timestamp":1}'):
        with pytest.raises(PayloadError):
            scene.node.received(f"STATE/{HOST}", payload)
    scene.node.received(f"STATE/{HOST}", b"ONLINE")
    scene.perform()
    assert scene.host.verbs() == ["NBIRTH"]
    scene.node.received(f"STATE/{HOST}", b"OFFLINE")
    scene.perform()
    assert scene.host.verbs() == ["NBIRTH", "NDEATH"]


# ---- events ---------------------------------------------------------------------------------------------------


def test_an_event_is_node_data_and_a_defect_device_data_too(scene: Scene) -> None:
    """tck-id-topics-ndata-topic, tck-id-topics-ddata-topic: the whole event as JSON, its parts typed, its own time."""
    scene.live()
    scene.connect()
    scene.clock.advance(3)
    row = scene.event()
    time_ms = scene.now_ms()
    scene.turn(2)
    node, device = scene.host.messages[2:4]
    assert json.loads(str(node["Event/JSON"].value)) == json.loads(row.payload)
    values = [node[f"Event/{name}"].value for name in ("Seq", "ID", "Type", "Camera")]
    assert values == [1, "id1", "defect.opened", "top"]
    assert (device.verb, device.device) == ("DDATA", "top")
    names = ("Class", "Confidence", "X px", "Height px", "Open", "Position m")
    assert [device[f"Last Defect/{name}"].value for name in names] == ["scratches", 0.9, -1, 4, True, None]
    assert {m.timestamp_ms for m in (*node.payload.metrics, *device.payload.metrics)} == {time_ms}
    assert scene.host.value("Event Count", "top") == 0, "the count starts at this start of the daemon"


def test_events_are_counted_from_this_start(scene: Scene) -> None:
    """tck-id-topics-ddata-payload: the count of a camera's events changes with each."""
    scene.live()
    scene.event()
    scene.node.count_from(2)
    scene.connect()
    scene.event()
    scene.event("bottom")
    scene.turn()
    assert scene.host.value("Event Count", "top") == 1


def test_events_come_in_order_whatever_their_cameras_do(scene: Scene) -> None:
    """tck-id-payloads-ddata-order: a lost camera's events still come, by the node."""
    scene.live()
    scene.connect()
    scene.event()
    scene.node.camera_state("top", "no_signal", "")
    scene.event(kind="camera.lost")
    scene.event("node", kind="node.stopped")
    scene.turn()
    assert scene.host.events() == [(1, False), (2, False), (3, False)]
    assert scene.host.verbs().count("DDATA top") == 0


def test_events_of_an_outage_are_history_with_their_own_times(scene: Scene) -> None:
    """tck-id-operational-behavior-data-publish-nbirth-order, section 6.4.5 is_historical: after the births, apart."""
    scene.live()
    scene.connect()
    scene.turn()
    scene.node.lost()
    times = []
    for _ in range(3):
        scene.clock.advance(60)
        scene.event()
        times.append(scene.now_ms())
        scene.turn()
    scene.clock.advance(600)
    scene.connect()
    scene.turn()
    verbs = scene.host.verbs()[2:]
    assert verbs[:2] == ["NBIRTH", "DBIRTH top"]
    data = scene.host.messages[4:]
    assert all(metric.is_historical for message in data for metric in message.payload.metrics)
    assert [h["Event/Seq"].timestamp_ms for h in data if h.verb == "NDATA"] == times
    assert scene.host.value("Last Defect/Track ID", "top") == "t3", "the birth has the newest"
    assert all(h.payload.timestamp_ms == scene.now_ms() for h in data)


def test_events_that_were_not_settled_are_sent_again(scene: Scene) -> None:
    """tck-id-payloads-ndata-qos: QoS 0 loses, so events of the last minute come once more, as history."""
    scene.connect()
    for _ in range(10):
        scene.event()
        scene.turn(20)
    scene.node.lost()
    scene.connect()
    scene.turn()
    again = [seq for seq, is_history in scene.host.events() if is_history]
    assert again == [8, 9, 10]


def test_without_answers_nothing_is_settled(scene: Scene) -> None:
    """tck-id-payloads-ndata-qos: a broker that is silent has proven nothing, however long it lasts."""
    scene.connect()
    scene.answers = False
    scene.event()
    scene.turn()
    for _ in range(100):
        scene.turn(10)
    assert scene.node.settled_seq == 0
    assert scene.fences == 1
    assert scene.node.unanswered_ns() > 900 * NS_PER_S


def test_a_node_without_events_settles_and_then_is_silent(scene: Scene) -> None:
    """tck-id-principles-rbe-recommended: fences end when there is nothing left to prove."""
    scene.connect()
    scene.event()
    for _ in range(20):
        scene.turn(10)
    assert scene.node.settled_seq == 1
    fences = scene.fences
    for _ in range(20):
        scene.turn(10)
    assert scene.fences == fences


def test_a_kill_loses_nothing(scene: Scene) -> None:
    """tck-id-payloads-ndeath-will-message: only what was durable is known then; each event came at least once."""
    scene.connect()
    for number in range(50):
        scene.event()
        scene.turn(7)
        if number % 9 == 0:
            scene.node.take()
            scene.restart()
            scene.turn()
            scene.connect()
    scene.turn()
    assert {seq for seq, _ in scene.host.events()} == set(range(1, 51))


def test_a_host_that_was_away_gets_what_it_missed() -> None:
    """tck-id-operational-behavior-edge-node-termination-host-offline: it was away before its death was published."""
    scene = Scene(HOST)
    scene.connect()
    scene.host_state(online=True, timestamp=1)
    for _ in range(20):
        scene.event()
        scene.turn(10)
    first_missed = 17  # the host's will comes after its keepalive: messages sent meanwhile reached no host
    scene.host_state(online=False, timestamp=2)
    scene.node.lost()
    scene.event()
    scene.turn(500)
    scene.connect()
    scene.turn()
    scene.host_state(online=True, timestamp=3)
    scene.turn()
    history = [seq for seq, is_history in scene.host.events() if is_history]
    assert set(range(first_missed, 22)) <= set(history)
    assert history == sorted(history)
    scene.check()


def test_rebirth_repeats_events_that_are_not_settled(scene: Scene) -> None:
    """tck-id-operational-behavior-host-reordering-rebirth: a host asks because it missed something."""
    scene.connect()
    scene.event()
    scene.turn(10)
    scene.ask_rebirth()
    scene.turn(1)
    assert scene.host.events() == [(1, False), (1, True)]


def test_a_backlog_goes_out_in_windows(scene: Scene) -> None:
    """tck-id-payloads-ndata-seq-inc: never more than a window without the broker's answer; then all of it, in order."""
    scene.live()
    for _ in range(1000):
        scene.event()
    scene.turn()
    scene.connect()
    scene.answers = False
    scene.turn()
    assert len(scene.host.messages) <= WINDOW + 2
    scene.answers = True
    scene.node.answered()
    scene.turn()
    assert [seq for seq, _ in scene.host.events()] == list(range(1, 1001))


def test_live_values_wait_while_the_broker_is_silent(scene: Scene) -> None:
    """tck-id-principles-rbe-recommended: they are merged, so memory does not grow."""
    scene.connect()
    scene.answers = False
    for number in range(3 * WINDOW):
        scene.node.node_values({"Outbox/Depth": number})
        scene.turn(0.01)
    assert len(scene.host.messages) <= WINDOW + 1
    scene.answers = True
    scene.node.answered()
    scene.turn()
    assert scene.host.value("Outbox/Depth") == 3 * WINDOW - 1


def test_events_that_the_outbox_dropped_are_counted(scene: Scene) -> None:
    """tck-id-operational-behavior-data-publish-nbirth-values: lost events are reported, and counted once."""
    for _ in range(10):
        scene.event()
    del scene.rows[2:6]
    scene.connect()
    scene.turn()
    assert scene.host.value("Event/Lost") == 4
    scene.node.lost()
    scene.connect()
    scene.turn()
    assert scene.host.value("Event/Lost") == 4


def test_a_defect_sent_late_does_not_overwrite_a_newer_one(scene: Scene) -> None:
    """tck-id-operational-behavior-data-publish-dbirth-order: what a DBIRTH already carries comes as history."""
    scene.connect()
    scene.live()
    scene.answers = False
    for _ in range(WINDOW):
        scene.event()
    scene.turn()
    scene.node.camera_state("top", "no_signal", "")
    scene.live()
    assert scene.host.value("Last Defect/Track ID", "top") == f"t{WINDOW}"
    scene.answers = True
    scene.node.answered()
    scene.turn()
    assert scene.host.value("Last Defect/Track ID", "top") == f"t{WINDOW}"


def test_an_event_too_large_for_the_broker_goes_without_its_json(scene: Scene) -> None:
    """tck-id-payloads-sequence-num-incrementing: a message that ends the connection would come again and again."""
    scene.connect(packet_limit=2000)
    scene.event(note="x" * 5000)
    scene.turn()
    message = scene.host.messages[-1]
    assert message["Event/JSON"].value is None
    assert message["Event/Seq"].value == 1


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"time":5,"defect":[]}'])
def test_a_damaged_row_costs_only_its_own_values(scene: Scene, payload: bytes) -> None:
    """tck-id-topics-ndata-payload: seq and id still come, so that the host sees no hole."""
    scene.rows.append(Row(1, "id1", "t", "info", payload, scene.clock.wall_ns()))
    scene.connect()
    scene.turn()
    assert scene.host.events() == [(1, False)]
    assert scene.host.value("Event/ID") == "id1"


class Course:
    """Things that happen to a scene, by name."""

    def __init__(self) -> None:
        self.scene = Scene(HOST)
        self.stamp_ms = 1
        self.number = 0

    def go(self, step: str) -> None:
        self.number += 1
        getattr(self, step)()
        scene = self.scene
        if scene.left:
            scene.left.clear()
            scene.node.lost()
        if scene.node.phase == "away":
            scene.connect()
        scene.turn({"wait": 5.0, "long": 40.0}.get(step, 0.1))

    def end(self) -> None:
        self.scene.answers = True
        self.scene.node.lost()
        self.scene.connect()
        self.online()
        self.scene.turn(1)

    def event(self) -> None:
        self.scene.event("node", kind="coverage.gap")

    def defect(self) -> None:
        self.scene.event(("top", "bottom")[self.number % 2])

    def state(self) -> None:
        state = ("running", "no_signal", "bad_image", "ended")[self.number % 4]
        self.scene.node.camera_state("top", state, str(self.number))

    def report(self) -> None:
        self.scene.node.camera_report(CameraReport("top", float(self.number), 1, 2, COVERAGE))

    def lost(self) -> None:
        self.scene.node.lost()

    def kill(self) -> None:
        self.scene.node.take()
        self.scene.restart()

    def rebirth(self) -> None:
        if self.scene.node.phase != "away":
            self.scene.ask_rebirth()

    def online(self, *, is_so: bool = True) -> None:
        if self.scene.node.phase != "away":
            self.stamp_ms += 1
            self.scene.host_state(online=is_so, timestamp=self.stamp_ms)

    def offline(self) -> None:
        self.online(is_so=False)

    def silent(self) -> None:
        self.scene.answers = not self.scene.answers
        self.scene.node.lost()

    def wait(self) -> None:
        """Time passes, by `go`."""

    long = wait


STEPS = ("event", "defect", "state", "report", "lost", "kill", "rebirth", "offline", "online", "silent", "wait", "long")


@given(st.lists(st.sampled_from(STEPS), max_size=60))
def test_any_sequence_of_inputs_keeps_the_rules(steps: list[str]) -> None:
    """tck-id-payloads-sequence-num-incrementing, and all that the strict host checks; and no event is lost."""
    course = Course()
    for step in steps:
        course.go(step)
    course.end()
    course.scene.check()
    assert {seq for seq, _ in course.scene.host.events()} == {row.seq for row in course.scene.rows}
