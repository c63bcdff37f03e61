"""The recorder: it never delays the caller and loses no event without need."""

from __future__ import annotations

import json
import threading

import pytest
from fakes.delivery import ORIGIN, event
from fakes.waiting import until

from edge.delivery.mqtt.topics import Topics
from edge.delivery.outbox.store import Outbox
from edge.delivery.recorder import GROUP, PATIENCE_S, Recorder
from edge.errors import OutboxError
from edge.event import Evidence
from edge.host.clock import SystemClock

TOPICS = Topics("defectd", "line3")


class Disk(Outbox):
    """An outbox whose disk can fail or block."""

    def __init__(self, folder) -> None:
        self.groups: list[int] = []
        self.has_failed = False
        self.gate = threading.Event()
        self.gate.set()
        super().__init__(
            folder / "outbox.db", max_rows=10**6, keep_delivered=10, durability="normal", clock=SystemClock()
        )

    def append(self, drafts):
        assert self.gate.wait(10)
        if self.has_failed:
            raise OutboxError("no disk")
        self.groups.append(len(drafts))
        return super().append(drafts)


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path)
    yield disk
    disk.close()


def recorder_for(disk, **options) -> Recorder:
    recorder = Recorder(disk, ORIGIN, TOPICS, SystemClock(), **options)
    recorder.start()
    return recorder


def stored(disk) -> list[dict]:
    return [json.loads(row.payload) for row in disk.peek(0, 10**6)]


def test_event_is_stored_on_its_topic_and_the_publisher_is_woken(disk):
    """One event: one commit, its own topic, its own id, a new number."""
    woken = threading.Event()
    recorder = recorder_for(disk, on_stored=woken.set)
    one = event(camera="top")
    recorder.put(one)
    assert woken.wait(10)
    (row,) = disk.peek(0, 10)
    assert row.topic == "defectd/line3/top/event"
    assert row.event_id == one.event_id
    assert json.loads(row.payload)["seq"] == 1
    assert recorder.stop(5)
    assert recorder.stored == 1


def test_event_is_announced_before_it_is_stored(disk):
    """The coil store can save its state first: a subscriber that gets the event can rely on that state."""
    announced = []
    recorder = recorder_for(disk, before_commit=lambda events: announced.append((list(events), disk.last_seq)))
    one = event()
    recorder.put(one)
    assert recorder.stop(5)
    assert announced == [([one], 0)]
    assert disk.last_seq == 1


def test_queued_events_are_stored_in_groups_and_in_order(disk):
    """During a commit the next group gathers; the order is that of put."""
    recorder = recorder_for(disk)
    disk.gate.clear()
    events = [event() for _ in range(GROUP + 50)]
    recorder.put(events[0])
    until(lambda: recorder.waiting == 1)
    for one in events[1:]:
        recorder.put(one)
    disk.gate.set()
    assert recorder.stop(5)
    assert len(disk.groups) <= 3
    assert max(disk.groups) <= GROUP
    assert [e["event_id"] for e in stored(disk)] == [e.event_id for e in events]


def test_event_refers_to_its_evidence_when_that_is_on_disk_in_time(disk):
    """Evidence that is ready by the commit is referred to; late evidence is null, and all of a group share one wait."""
    recorder = recorder_for(disk)
    disk.gate.clear()
    recorder.put(event())
    until(lambda: recorder.waiting == 1)
    kept = Evidence("defect/0000000001-top-0123456789abcdef.jpg", "ab" * 32)
    asked = []

    def never(timeout_s: float) -> None:
        asked.append(timeout_s)
        threading.Event().wait(timeout_s)

    events = [event() for _ in range(6)]
    for one, picture in zip(events, [lambda _s: kept, never, never, never, lambda _s: kept, None], strict=True):
        recorder.put(one, picture)
    disk.gate.set()
    assert recorder.stop(5)
    found = [e["evidence"] for e in stored(disk)[1:]]
    assert found == [kept.as_json(), None, None, None, kept.as_json(), None]
    assert sum(asked) < 1.5 * PATIENCE_S


def test_disk_outage_asks_for_the_evidence_once(disk):
    """The recorder repeats attempts to store, but not the wait for evidence."""
    disk.has_failed = True
    recorder = recorder_for(disk)
    asked = []
    recorder.put(event(), asked.append)
    until(lambda: asked)
    disk.has_failed = False
    assert recorder.stop(5)
    assert (len(asked), stored(disk)[0]["evidence"]) == (1, None)


def test_put_does_not_wait_for_the_disk(disk):
    """A disk that blocks costs the caller nothing."""
    recorder = recorder_for(disk)
    disk.gate.clear()
    for _ in range(100):
        recorder.put(event())
    assert recorder.waiting == 100
    disk.gate.set()
    assert recorder.stop(5)


def test_events_survive_a_disk_outage_and_one_line_logs_it(disk, caplog):
    """The recorder logs the outage once and the recovery once, and loses no event."""
    recorder = recorder_for(disk)
    disk.has_failed = True
    for _ in range(5):
        recorder.put(event())
    until(lambda: "cannot be stored" in caplog.text)
    disk.has_failed = False
    until(lambda: recorder.stored == 5)
    assert caplog.text.count("cannot be stored") == 1
    assert caplog.text.count("stored again") == 1
    assert recorder.stop(5)
    assert [e["seq"] for e in stored(disk)] == [1, 2, 3, 4, 5]


def test_full_memory_drops_the_oldest_and_reports_it(disk):
    """The recorder counts what it drops from memory, and one event reports the number."""
    recorder = recorder_for(disk, max_waiting=10)
    disk.gate.clear()
    recorder.put(event())
    until(lambda: recorder.waiting == 1 and not recorder._queue)
    for _ in range(13):
        recorder.put(event())
    assert recorder.dropped == 3
    disk.gate.set()
    assert recorder.stop(5)
    events = stored(disk)
    details = [e["detail"] for e in events if e["type"] == "events.dropped"]
    assert details == [{"first_seq": None, "last_seq": None, "count": 3, "cause": "memory"}]
    assert len(events) == 1 + 10 + 1


def test_stop_gives_up_in_time_and_logs_what_is_lost(disk, caplog):
    """When the disk never recovers, stop returns by its deadline."""
    recorder = recorder_for(disk)
    disk.has_failed = True
    recorder.put(event())
    assert not recorder.stop(0.3)
    assert "1 events could not be stored" in caplog.text


def test_value_that_json_cannot_express_costs_neither_its_event_nor_others(disk, caplog):
    """NaN becomes null and a foreign object becomes text; the event is stored anyway."""
    recorder = recorder_for(disk)
    recorder.put(event("coverage.gap", detail={"ratio": float("nan"), "what": object(), "n": 3, "list": (1, 2.5)}))
    recorder.put(event())
    assert recorder.stop(5)
    first, _ = stored(disk)
    assert first["detail"]["ratio"] is None
    assert first["detail"]["n"] == 3
    assert first["detail"]["list"] == [1, 2.5]
    assert "values left out" in caplog.text


def test_event_keeps_the_origin_at_the_time_of_put(disk):
    """An event decided before a model change names the old model, even if it is stored after."""
    recorder = recorder_for(disk)
    disk.gate.clear()
    recorder.put(event())
    recorder.origin = type(ORIGIN)("line3", "boot-1", {"name": "new", "version": "2", "sha256": "x"}, "c")
    recorder.put(event())
    disk.gate.set()
    assert recorder.stop(5)
    assert [e["model"]["name"] for e in stored(disk)] == ["student", "new"]


def test_recorder_beats_while_the_disk_fails(disk):
    """The watchdog does not mistake a disk outage for a stuck thread."""
    recorder = recorder_for(disk)
    disk.has_failed = True
    recorder.put(event())
    until(lambda: recorder.waiting == 1)
    failing_ns = recorder.beat_ns
    until(lambda: recorder.beat_ns > failing_ns)
    assert recorder.alive
    disk.has_failed = False
    assert recorder.stop(5)
    assert not recorder.alive
