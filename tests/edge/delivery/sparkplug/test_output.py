"""The Sparkplug output: its memory on disk, its reading of the outbox, its configuration, its thread."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.delivery import draft
from fakes.sparkplug_host import StrictHost
from fakes.waiting import until

from edge.config import Config, Mqtt, parse
from edge.delivery.mqtt.notices import Connected, Disconnected, Notice, Received, Refused, Subscribed, Will
from edge.delivery.outbox.limits import PRUNE_BATCH
from edge.delivery.outbox.store import Outbox
from edge.delivery.output import NodeProperties
from edge.delivery.outputs import Outputs
from edge.delivery.sparkplug.edge_node import Identity
from edge.delivery.sparkplug.output import JOIN_S, Memory, SparkplugOutput
from edge.delivery.sparkplug.payload import decode
from edge.errors import BrokerError, ConfigError
from edge.host.backoff import Backoff
from edge.host.clock import SystemClock

# ---- memory ---------------------------------------------------------------------------------------------------


def test_memory_survives(tmp_path: Path) -> None:
    """tck-id-topics-nbirth-bdseq-increment: what is written is read again, by the owner only, and nothing is left."""
    path = tmp_path / "sparkplug.json"
    Memory(254, 4711).write(path)
    assert Memory.read(path, 5000, 5000) == Memory(254, 4711)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["sparkplug.json"]


def test_an_output_that_never_ran_starts_with_the_newest_event(tmp_path: Path) -> None:
    """Switched on after a year, it does not send the year."""
    assert Memory.read(tmp_path / "sparkplug.json", 77, 77) == Memory(None, 77)


@pytest.mark.parametrize("words", ["", "{", "[]", '{"bd_seq":"x","settled_seq":1}', '{"bd_seq":1}', "\xff", "[" * 9000])
def test_a_damaged_memory_is_logged_and_replaced(tmp_path: Path, caplog: Any, words: str) -> None:
    """A warning, and a start as if there were no file."""
    path = tmp_path / "sparkplug.json"
    path.write_text(words, "latin-1")
    assert Memory.read(path, 9, 9) == Memory(None, 9)
    assert "cannot be read" in caplog.text


def test_a_cursor_beyond_the_outbox_is_reset(tmp_path: Path) -> None:
    """With another outbox its numbers mean nothing; bdSeq continues."""
    path = tmp_path / "sparkplug.json"
    Memory(3, 100).write(path)
    assert Memory.read(path, 10, 10) == Memory(3, 10)


def test_an_output_that_is_built_late_starts_with_the_first_event_of_the_run(tmp_path: Path) -> None:
    """Events that were stored since the start of the daemon are sent; a cursor above its start stays."""
    path = tmp_path / "sparkplug.json"
    assert Memory.read(path, 12, 9) == Memory(None, 9)
    Memory(3, 11).write(path)
    assert Memory.read(path, 12, 9) == Memory(3, 11)


# ---- the second reader of the outbox --------------------------------------------------------------------------


def outbox(folder: Path, **more: Any) -> Outbox:
    options: dict[str, Any] = {"max_rows": 1000, "keep_delivered": 10, "durability": "normal"} | more
    return Outbox(folder / "outbox.db", clock=FakeClock(), **options)


def test_a_second_reader_receives_all_whatever_the_first_does(tmp_path: Path) -> None:
    """Waiting, delivered and refused events, in order, from any place."""
    box = outbox(tmp_path)
    box.append([draft(n) for n in range(6)])
    box.ack([1, 3])
    box.refuse(2, 0x87, "no")
    assert [row.seq for row in box.after(0, 100)] == [1, 2, 3, 4, 5, 6]
    assert [row.seq for row in box.after(2, 2)] == [3, 4]
    box.close()


def test_delivered_events_wait_for_the_second_reader(tmp_path: Path) -> None:
    """What is held is not pruned; when it is let go, it is."""
    box = outbox(tmp_path)
    box.hold("sparkplug", 50)
    seqs = box.append([draft(n) for n in range(2 * PRUNE_BATCH)])
    box.ack(seqs[:-1])
    assert [row.seq for row in box.after(0, 10_000)] == list(seqs[50:])
    box.hold("sparkplug", seqs[-1])
    box.ack(seqs[-1:])
    assert len(box.after(0, 10_000)) == 10
    box.close()


def test_the_second_reader_holds_no_more_than_the_bound(tmp_path: Path) -> None:
    """A host that never comes costs `max_rows` delivered events, not the disk."""
    box = outbox(tmp_path, max_rows=300)
    box.hold("sparkplug", 0)
    for start in range(0, 2000, 100):
        box.ack(box.append([draft(n) for n in range(start, start + 100)]))
    assert 300 <= len(box.after(0, 10_000)) <= 300 + PRUNE_BATCH
    box.close()


# ---- configuration --------------------------------------------------------------------------------------------


def configured(tmp_path: Path, mqtt: dict[str, Any] | None = None, **sparkplug: Any) -> Config:
    raw = {"node": "line3", "cameras": [{"name": "top", "source": "strip:"}], "sparkplug": sparkplug}
    return parse(raw | ({"mqtt": mqtt} if mqtt else {}), origin="test", base=tmp_path, env={})


@pytest.mark.parametrize("key", ["group_id", "edge_node_id", "primary_host"])
@pytest.mark.parametrize("value", ["a/b", "a+", "#", "", "a\nb", "x" * 101])
def test_ids_with_reserved_characters_are_refused(tmp_path: Path, key: str, value: str) -> None:
    """tck-id-topic-structure-namespace-valid-group-id, -valid-edge-node-id: no plus, slash or number sign."""
    with pytest.raises(ConfigError, match=f"sparkplug.{key}"):
        configured(tmp_path, **{key: value})


@pytest.mark.parametrize(
    ("sparkplug", "reason"),
    [
        ({"legacy_state": True}, "primary_host"),
        ({"password_file": "pw"}, "username"),
        ({"broker": "mqtt://10.1.2.3"}, "would not be encrypted"),
        ({"broker": "embedded"}, "mqtt://HOST"),
    ],
)
def test_settings_that_cannot_connect_are_refused(tmp_path: Path, sparkplug: dict[str, Any], reason: str) -> None:
    """Each message names the section and the remedy."""
    with pytest.raises(ConfigError, match=rf"sparkplug[\s\S]*{reason}"):
        configured(tmp_path, **sparkplug)


def test_credentials_stay_with_their_broker(tmp_path: Path) -> None:
    """The password of `mqtt` is never sent to the other broker."""
    mqtt = {"broker": "mqtt://127.0.0.1", "username": "line3", "password": "secret", "keepalive_s": 7}
    same = configured(tmp_path, mqtt)
    other = configured(tmp_path, mqtt, broker="mqtts://scada:8883")
    assert same.sparkplug.connection(same.mqtt) == same.mqtt
    connection = other.sparkplug.connection(other.mqtt)
    assert (connection.address, connection.username, connection.read_password()) == (("scada", 8883, True), None, None)
    assert connection.keepalive_s == 7


def test_it_is_off_by_default(tmp_path: Path) -> None:
    """A node makes a second connection only when it is configured."""
    box = outbox(tmp_path)
    assert "sparkplug" not in {status.name for status in Outputs(configured(tmp_path), box, FakeClock()).status()}
    enabled = configured(tmp_path, enabled=True, group_id="plant")
    assert "sparkplug" in {status.name for status in Outputs(enabled, box, FakeClock()).status()}
    box.close()


# ---- the thread -----------------------------------------------------------------------------------------------


class FakeSparkplugBroker:
    """Takes links one after the other; each can be refused, silent or cut."""

    def __init__(self) -> None:
        self.links: list[FakeSparkplugLink] = []
        self.host = StrictHost("plant", "line3")
        self.refuses = False
        self.answers = True

    def __call__(self, *, deliver: Callable[[Notice], None], protocol: str, will: Will) -> Any:
        self.links.append(FakeSparkplugLink(self, deliver, will))
        return self.links[-1]


class FakeSparkplugLink:
    """Answers at once, in the caller's thread."""

    def __init__(self, broker: FakeSparkplugBroker, deliver: Callable[[Notice], None], will: Will) -> None:
        self.broker, self.deliver, self.will = broker, deliver, will
        self.alive = True
        self.disconnected_with_will = False

    def start(self) -> None:
        if self.broker.refuses:
            self.deliver(Refused("nothing listens", "start it"))
        else:
            self.deliver(Connected("5", 20, None, session_present=False))

    def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> int:
        if not self.alive:
            raise BrokerError("gone")
        assert qos == 0
        self.broker.host.receive(topic, payload)
        return 1

    def subscribe(self, _filters: Any) -> int:
        if self.broker.answers:
            self.deliver(Subscribed(1, ok=True, reason="granted"))
        return 1

    def disconnect(self, _timeout_s: float, *, with_will: bool = False) -> bool:
        self.disconnected_with_will = with_will
        self.alive = False
        return True

    def discard(self, _timeout_s: float = 1.0) -> bool:
        self.alive = False
        return True

    def cut(self) -> None:
        self.alive = False
        self.deliver(Disconnected("cut"))


@pytest.fixture
def scene(tmp_path: Path) -> Any:
    """An output with a real outbox and a fake broker; stopped at the end."""
    broker = FakeSparkplugBroker()
    box = outbox(tmp_path)
    output = SparkplugOutput(
        broker,
        box,
        Identity("plant", "line3", ("top",)),
        SystemClock(),
        Mqtt(broker="mqtt://127.0.0.1", keepalive_s=2),
        tmp_path / "sparkplug.json",
        backoff=Backoff(0.001, 0.002),
    )
    output.start()
    yield output, broker, box
    output.stop(2)
    box.close()
    assert not output.alive
    assert not broker.host.faults


def test_bdseq_is_durable_before_it_is_used(scene: Any, tmp_path: Path) -> None:
    """tck-id-topics-nbirth-bdseq-increment: however many CONNECTs fail, each number is on disk first."""
    _output, broker, _box = scene
    until(lambda: broker.host.alive, what="the birth")
    for _ in range(5):
        link = broker.links[-1]
        number = decode(link.will.payload).metrics[0].value
        assert json.loads((tmp_path / "sparkplug.json").read_text())["bd_seq"] == number
        assert not link.will.retain
        link.cut()
        until(lambda before=link: broker.links[-1] is not before, what="the next connection")
        until(lambda: broker.host.bd_seq == decode(broker.links[-1].will.payload).metrics[0].value, what="the birth")


def test_stop_sends_all_events_and_publishes_ndeath(scene: Any) -> None:
    """tck-id-payloads-ndeath-will-message-publisher-disconnect-mqtt50: all is sent, NDEATH, then with the will."""
    output, broker, box = scene
    output.state("top", {"state": "running", "reason": None})
    until(lambda: "top" in broker.host.alive, what="the device")
    box.append([draft(n) for n in range(500)])
    output.wake()
    assert output.stop(5)
    assert [seq for seq, _ in broker.host.events()] == list(range(1, 501))
    assert broker.host.verbs()[-1] == "NDEATH"
    assert broker.links[-1].disconnected_with_will


def test_a_broker_that_refuses_is_logged_once(scene: Any, caplog: Any) -> None:
    """The same message comes once a minute, however often the output tries."""
    _output, broker, _box = scene
    until(lambda: broker.host.alive, what="the birth")
    caplog.set_level(logging.WARNING)
    broker.refuses = True
    broker.links[-1].cut()
    until(lambda: len(broker.links) > 20, what="twenty attempts")
    assert caplog.text.count("nothing listens") == 1
    broker.refuses = False
    until(lambda: broker.host.verbs().count("NBIRTH") == 2, what="the birth after it")


def test_a_connection_without_answers_is_dropped(scene: Any) -> None:
    """Three keepalives without an answer to the subscription end the connection."""
    _output, broker, _box = scene
    until(lambda: broker.host.alive, what="the birth")
    broker.answers = False
    broker.links[-1].cut()
    until(lambda: len(broker.links) > 2, 15, "a third connection")
    broker.answers = True


def test_invalid_messages_do_not_end_the_output(scene: Any, caplog: Any) -> None:
    """tck-id-topics-ncmd-payload: garbage is logged, and the output goes on; an empty payload is valid."""
    output, broker, _box = scene
    until(lambda: broker.host.alive, what="the birth")
    for payload in (b"\xff", b"", b"x" * 300_000):
        broker.links[-1].deliver(Received("spBv1.0/plant/NCMD/line3", payload, 0, retained=False))
    until(lambda: caplog.text.count("is invalid") == 2, what="two refusals")
    assert output.alive


def test_a_memory_that_cannot_be_written_is_logged(scene: Any, tmp_path: Path, caplog: Any) -> None:
    """A full disk costs repetitions, not the output."""
    _output, broker, _box = scene
    until(lambda: broker.host.alive, what="the birth")
    (tmp_path / "sparkplug.json.new").mkdir()
    before = broker.links[-1]
    before.cut()
    until(lambda: broker.links[-1] is not before and broker.host.bd_seq == 1, what="the next birth")
    assert "cannot be written" in caplog.text


def test_a_changed_setting_reaches_the_host(scene: Any, tmp_path: Path) -> None:
    """After a change the hash of the configuration is renewed, without a new birth."""
    output, broker, _ = scene
    until(lambda: broker.host.alive, what="the birth")
    output.set_properties(NodeProperties("1.0", "cd" * 32, "student", "1", "ab" * 32))
    until(lambda: broker.host.value("Properties/Config SHA-256") == "cd" * 32, what="the new hash")
    assert broker.host.verbs().count("NBIRTH") == 1


def test_an_output_that_was_left_behind_leaves_the_memory_to_its_successor(tmp_path: Path) -> None:
    """Should a hung thread ever return, it writes neither bdSeq nor cursor."""
    clock = FakeClock()
    box = outbox(tmp_path)
    path = tmp_path / "sparkplug.json"
    settings = Mqtt(broker="mqtt://127.0.0.1", keepalive_s=2)
    hung = SparkplugOutput(FakeSparkplugBroker(), box, Identity("plant", "line3", ("top",)), clock, settings, path)
    hung.ask_stop(1.0)
    clock.advance(1.0 + JOIN_S + 0.1)
    Memory(7, 0).write(path)
    hung._node.connect()
    hung._save()
    assert Memory.read(path, 0, 0) == Memory(7, 0)
    box.close()
