"""The publisher: at least once, in order, and delivered only when the broker confirms it."""

from __future__ import annotations

import logging

import pytest
from fakes.delivery import FakeBroker, draft
from fakes.waiting import until

from edge.config import Mqtt
from edge.delivery.mqtt.connection import backoff_for
from edge.delivery.mqtt.messages import MAX_RETAINED
from edge.delivery.mqtt.notices import Acknowledged, Disconnected
from edge.delivery.mqtt.publisher import Callbacks, Publisher
from edge.delivery.mqtt.retries import DEFAULT_RETRIES, Retries
from edge.delivery.mqtt.topics import Topics
from edge.delivery.outbox.reader import read_events
from edge.delivery.outbox.store import Outbox
from edge.errors import OutboxError
from edge.host.backoff import Backoff
from edge.host.clock import SystemClock

TOPICS = Topics("defectd", "line3")
SETTINGS = Mqtt(broker="mqtt://127.0.0.1:1883", inflight=5, keepalive_s=30)


class Scene:
    """An outbox, a publisher and a fake broker."""

    def __init__(self, folder) -> None:
        self.path = folder / "outbox.db"
        self.outbox = Outbox(self.path, max_rows=10**6, keep_delivered=10**6, durability="normal", clock=SystemClock())
        self.broker = FakeBroker()
        self.publishers: list[Publisher] = []

    def start(self, settings: Mqtt = SETTINGS, **more) -> Publisher:
        options = {"version": "1.0", "backoff": Backoff(0.005, 0.02)} | more
        publisher = Publisher(self.broker, self.outbox, TOPICS, SystemClock(), settings, **options)
        self.publishers.append(publisher)
        publisher.start()
        return publisher

    def store(self, count: int, first: int = 1) -> None:
        self.outbox.append([draft(n) for n in range(first, first + count)])
        for publisher in self.publishers:
            publisher.wake()

    def drained(self) -> None:
        until(lambda: self.outbox.depth() == 0, what="the outbox to drain")

    @property
    def seqs(self) -> list[int]:
        return [e["seq"] for e in self.broker.events]


@pytest.fixture
def scene(tmp_path):
    scene = Scene(tmp_path)
    yield scene
    for publisher in scene.publishers:
        publisher.stop(1.0)
    scene.outbox.close()


def test_stored_events_are_sent_in_order_and_are_delivered_when_confirmed(scene):
    """Each row is sent once in the order of seq, and the outbox is empty after the last PUBACK."""
    scene.store(50)
    publisher = scene.start()
    scene.drained()
    assert scene.seqs == list(range(1, 51))
    state = publisher.snapshot()
    assert (state.sent, state.acknowledged, state.inflight, state.depth) == (50, 50, 0, 0)
    assert state.connected
    assert state.protocol == "5"


def test_event_without_confirmation_stays(scene):
    """A row that was sent waits for its PUBACK; at most a window of rows waits."""
    scene.broker.answer = lambda sent: None if sent.topic.endswith("/event") else 0
    scene.store(20)
    publisher = scene.start()
    until(lambda: len(scene.seqs) == 5)
    assert scene.outbox.depth() == 20
    assert publisher.snapshot().inflight == 5


@pytest.mark.parametrize("receive_maximum", [1, 3])
def test_window_is_no_wider_than_the_broker_allows(scene, receive_maximum):
    """Receive Maximum bounds the messages in flight, retained ones included."""
    scene.broker.receive_maximum = receive_maximum
    scene.broker.answer = lambda sent: None
    scene.store(20)
    publisher = scene.start()
    publisher.retain("defectd/line3/top/state", {"state": "running"})
    until(lambda: publisher.snapshot().inflight == receive_maximum)
    assert len(scene.broker.sent) == receive_maximum


def test_new_events_are_not_replayed_and_old_ones_are(scene):
    """`replayed` marks events that were stored before the connection."""
    scene.store(2)
    publisher = scene.start()
    scene.drained()
    until(lambda: publisher.snapshot().connected)
    scene.store(2)
    scene.drained()
    assert [e["replayed"] for e in scene.broker.events] == [True, True, False, False]
    assert publisher.snapshot().replayed == 2


def test_unconfirmed_events_are_sent_again_on_the_next_connection(scene):
    """After a cut between publish and PUBACK the same event ids come again, in order, before newer ones."""
    scene.broker.answer = lambda sent: None if sent.topic.endswith("/event") else 0
    publisher = scene.start()
    until(lambda: publisher.snapshot().connected)
    scene.store(3)
    until(lambda: len(scene.seqs) == 3)
    first = [e["event_id"] for e in scene.broker.events]
    scene.broker.answer = lambda sent: 0
    scene.broker.links[-1].cut()
    scene.store(1, first=4)
    scene.drained()
    again = scene.broker.events[3:]
    assert [e["event_id"] for e in again[:3]] == first
    assert [e["seq"] for e in again] == [1, 2, 3, 4]
    assert all(e["replayed"] for e in again[:3])


def test_late_confirmation_of_an_old_connection_counts_for_nothing(scene):
    """Message ids restart with each connection; an old PUBACK must not confirm a new row."""
    scene.broker.answer = lambda sent: None if sent.topic.endswith("/event") else 0
    scene.store(1)
    publisher = scene.start()
    until(lambda: len(scene.seqs) == 1)
    old = scene.broker.links[-1]
    mid = scene.broker.sent[-1].mid
    old.cut()
    until(lambda: len(scene.seqs) == 2)
    old.deliver(Acknowledged(mid, True, 0, "late"))
    old.deliver(Disconnected("late"))
    scene.broker.links[-1].deliver(Acknowledged(999, True, 0, "never sent"))
    connections = publisher.snapshot().connections
    publisher.wake()
    until(lambda: not publisher._connection.has_notices)
    assert scene.outbox.depth() == 1
    assert publisher.snapshot().connections == connections


@pytest.mark.parametrize("code", [0x87, 0x90, 0x99, 0x95])
def test_event_that_the_broker_never_takes_becomes_a_dead_letter(scene, code, caplog):
    """A refusal in the middle of the window gives a dead letter and an alarm; the other events are delivered."""
    scene.broker.answer = lambda sent: code if sent.payload.get("number") == 3 else 0
    scene.store(6)
    publisher = scene.start()
    scene.drained()
    assert [e.state for e in read_events(scene.path, 0, 10)] == ["delivered"] * 2 + ["refused"] + ["delivered"] * 3
    assert publisher.snapshot().refused == 1
    assert "dead letters" in caplog.text


def test_event_that_the_broker_defers_is_sent_again_later(scene):
    """Quota exceeded is no refusal: the publisher sends the event again, marked replayed."""
    full = [True] * 3

    def answer(sent):
        return 0x97 if sent.payload.get("number") == 2 and full and full.pop() else 0

    scene.broker.answer = answer
    publisher = scene.start(retries=Retries(first_hold_s=0.02))
    until(lambda: publisher.snapshot().connected)
    scene.store(3)
    scene.drained()
    assert scene.seqs.count(2) == 4
    assert scene.seqs.count(1) == 1
    assert scene.outbox.refused == 0
    assert [e["replayed"] for e in scene.broker.events if e["seq"] == 2] == [False, True, True, True]


def test_event_above_the_brokers_packet_limit_is_not_even_sent(scene):
    """It would end every connection."""
    scene.broker.maximum_packet_size = 300
    big = draft(1)
    big.payload["text"] = "x" * 300
    scene.outbox.append([big, draft(2)])
    scene.start()
    scene.drained()
    assert scene.seqs == [2]
    (dead,) = [e for e in read_events(scene.path, 0, 10) if e.state == "refused"]
    assert "the broker takes 300" in dead.reason


@pytest.mark.parametrize("code", [0x95, None])
def test_event_that_ends_every_connection_becomes_a_dead_letter(scene, code):
    """Events go one at a time until the cause is alone; it is refused at once (0x95) or after several strikes."""
    scene.broker.ends_on = lambda sent: Disconnected("gone", code) if sent.payload.get("number") == 3 else None
    scene.store(6)
    publisher = scene.start()
    scene.drained()
    assert [e.seq for e in read_events(scene.path, 0, 10) if e.state == "refused"] == [3]
    assert publisher.snapshot().connections <= 4 + DEFAULT_RETRIES.poison_strikes
    assert scene.seqs[-3:] == [4, 5, 6]


def test_bad_link_makes_no_event_a_dead_letter(scene):
    """Connections that end with different events in flight have another cause."""
    lives = iter(range(200))
    scene.broker.ends_on = lambda sent: (
        Disconnected("cut") if sent.topic.endswith("/event") and next(lives) % 3 else None
    )
    scene.store(20)
    scene.start()
    scene.drained()
    assert scene.outbox.refused == 0


def test_connection_that_confirms_nothing_is_dropped(scene):
    """A link without any answer is replaced after three keepalives."""
    settings = SETTINGS.model_copy(update={"keepalive_s": 0.05})
    scene.broker.answer = lambda sent: None
    scene.store(1)
    publisher = scene.start(settings)
    until(lambda: publisher.snapshot().connections >= 2)
    scene.broker.answer = lambda sent: 0
    scene.drained()


def test_status_comes_first_and_retained_messages_after_each_connection(scene):
    """Each connection starts with online and the latest retained message of each topic; the will reports offline."""
    publisher = Publisher(
        scene.broker, scene.outbox, TOPICS, SystemClock(), SETTINGS, version="1.0", backoff=Backoff(0.005, 0.02)
    )
    scene.publishers.append(publisher)
    publisher.announce({"cameras": ["top"]})
    for state in ("starting", "running"):
        publisher.retain(TOPICS.state("top"), {"state": state})
    publisher.start()
    until(lambda: scene.broker.published(TOPICS.state("top")))
    assert scene.broker.sent[0].topic == TOPICS.status
    assert scene.broker.sent[0].retain
    status = scene.broker.sent[0].payload
    assert status["online"] is True
    assert (status["node"], status["version"], status["cameras"]) == ("line3", "1.0", ["top"])
    assert status["since"].endswith("Z")
    assert b'"online":false' in scene.broker.links[0].will.payload
    assert scene.broker.links[0].will.topic == TOPICS.status
    scene.broker.links[0].cut()
    until(lambda: len(scene.broker.published(TOPICS.state("top"))) == 2)
    assert scene.broker.published(TOPICS.state("top")) == [{"state": "running"}] * 2


def test_retained_topics_are_bounded(scene):
    """A new topic beyond the bound is not accepted, a known one still is."""
    publisher = scene.start()
    for n in range(MAX_RETAINED):
        assert publisher.retain(f"t/{n}", {})
    assert not publisher.retain("one/more", {})
    assert publisher.retain("t/0", {"new": True})


def test_refused_retained_message_is_logged_and_events_go_on(scene, caplog):
    """An access list that forbids the state topic does not stop events."""
    scene.broker.answer = lambda sent: 0x87 if sent.retain else 0
    scene.store(3)
    scene.start()
    scene.drained()
    assert "refuses defectd/line3/status" in caplog.text


def test_retained_message_that_the_broker_defers_is_sent_again(scene):
    """A broker that was full for a moment does not keep an outdated state."""
    full = [True, True]
    scene.broker.answer = lambda sent: 0x97 if sent.retain and full and full.pop() else 0
    publisher = scene.start(retries=Retries(first_hold_s=0.02))
    until(lambda: len(scene.broker.published(TOPICS.status)) == 3)
    assert publisher.snapshot().connections == 1


def test_event_whose_topic_mqtt_cannot_carry_becomes_a_dead_letter(scene):
    """It would fail on every connection."""
    scene.outbox.append([draft(1, "bad/#/event"), draft(2)])
    scene.start()
    scene.drained()
    assert scene.seqs == [2]
    assert scene.outbox.refused == 1


def test_reply_is_sent_once_with_its_correlation(scene):
    """Replies are sent as soon as there is a connection; one to an invalid topic is skipped."""
    publisher = scene.start()
    publisher.reply("bad/#", {})
    publisher.reply("answers/here", {"ok": True}, correlation=b"7")
    until(lambda: scene.broker.published("answers/here"))
    assert scene.broker.published("answers/here") == [{"ok": True}]


def test_protocol_falls_back_at_once_and_is_remembered(scene):
    """0x84 leads to 3.1.1 without a delay, and later connections start with 3.1.1."""
    scene.broker.versions = ("3.1.1",)
    publisher = scene.start()
    until(lambda: publisher.snapshot().connected)
    assert publisher.snapshot().protocol == "3.1.1"
    scene.broker.links[-1].cut()
    until(lambda: publisher.snapshot().connections == 2)
    assert [link.protocol for link in scene.broker.links] == ["5", "3.1.1", "3.1.1"]


def test_broker_that_is_away_is_logged_once_and_events_wait(scene, caplog):
    """Many attempts give one line in the log."""
    caplog.set_level(logging.WARNING)
    scene.broker.up = False
    scene.store(3)
    publisher = scene.start()
    until(lambda: len(scene.broker.links) > 10)
    assert caplog.text.count("nothing listens") == 1
    assert not publisher.snapshot().connected
    assert "nothing listens" in publisher.snapshot().last_error
    scene.broker.up = True
    scene.drained()
    assert publisher.snapshot().last_error is None


def test_stop_drains_publishes_offline_and_leaves_without_the_will(scene):
    """`stop` sends all stored events, then offline, then DISCONNECT."""
    publisher = scene.start()
    until(lambda: publisher.snapshot().connected)
    scene.store(30)
    assert publisher.stop(5)
    assert scene.seqs == list(range(1, 31))
    last = scene.broker.sent[-1]
    assert (last.topic, last.payload["online"], last.payload["reason"]) == (TOPICS.status, False, "stopped")
    assert scene.broker.links[-1].goodbye
    assert not publisher.snapshot().connected


def test_stop_returns_in_time_while_the_broker_is_away(scene):
    """The remaining events stay in the outbox."""
    scene.broker.up = False
    scene.store(3)
    publisher = scene.start()
    until(lambda: scene.broker.links)
    assert not publisher.stop(1)
    assert not publisher.alive
    assert scene.outbox.depth() == 3


def test_stop_in_a_long_pause_tries_once_more(scene):
    """A broker that came back during the backoff still receives the waiting events."""
    scene.broker.up = False
    scene.store(3)
    publisher = Publisher(
        scene.broker, scene.outbox, TOPICS, SystemClock(), SETTINGS, version="1", backoff=Backoff(100.0, 1000.0)
    )
    publisher.start()
    until(lambda: publisher.snapshot().last_error)
    scene.broker.up = True
    assert publisher.stop(5)
    assert scene.seqs == [1, 2, 3]


def test_confirmation_that_cannot_be_stored_holds_the_next_events_back(scene, monkeypatch):
    """While the disk fails no further event is sent; delivery continues when the disk works again."""
    real = scene.outbox.ack
    away = [True]

    def ack(seqs):
        if away:
            raise OutboxError("no disk")
        return real(seqs)

    monkeypatch.setattr(scene.outbox, "ack", ack)
    scene.store(20)
    publisher = scene.start()
    until(lambda: publisher.snapshot().acknowledged >= 4)  # the status message used one place
    publisher.wake()
    assert len(scene.seqs) <= 5
    away.clear()
    scene.drained()
    assert scene.seqs == list(range(1, 21))


def test_retried_dead_letter_is_sent_again_in_its_place(scene):
    """It keeps its seq and event_id and is marked replayed; no other event is sent twice."""
    refused = []
    scene.broker.answer = lambda sent: 0x87 if sent.payload.get("seq") in (2, 3) else 0
    publisher = scene.start(
        retries=Retries(returned_s=0.01),
        callbacks=Callbacks(on_refused=lambda row, code, reason: refused.append((row.seq, code))),
    )
    scene.store(5)
    scene.drained()
    assert refused == [(2, 0x87), (3, 0x87)]
    scene.broker.answer = lambda sent: 0
    scene.outbox.retry(None)
    publisher.wake()
    scene.drained()
    assert scene.seqs == [1, 2, 3, 4, 5, 2, 3]
    assert [e["replayed"] for e in scene.broker.events] == [False] * 5 + [True] * 2
    assert publisher.snapshot().connections == 1


def test_flapping_link_names_a_second_client_as_a_cause(scene, caplog):
    """After three short connections the log gives this advice once, because few brokers report the cause."""
    publisher = scene.start()
    for n in range(1, 6):
        until(lambda n=n: publisher.snapshot().connections == n)
        until(lambda: publisher.snapshot().connected)
        scene.broker.links[-1].cut()
    until(lambda: publisher.snapshot().connections == 6)
    assert caplog.text.count("another client uses the same id") == 1


@pytest.mark.parametrize(
    ("broker", "most_s"), [("mqtt://127.0.0.1:1", 2.0), ("embedded", 2.0), ("mqtts://plant:1", 60.0)]
)
def test_backoff_is_short_on_this_machine_only(broker, most_s):
    """A local broker is tried again within two seconds, one on the network after longer pauses."""
    backoff = backoff_for(Mqtt(broker=broker))
    delays = [backoff.next_s() for _ in range(20)]
    assert most_s / 2 <= max(delays) <= most_s
