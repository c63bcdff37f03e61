"""The recorder: never in the way, nothing lost that need not be."""

from __future__ import annotations

import json
import threading

import pytest
from fakes.delivery import ORIGIN, event, until

from edge.delivery.mqtt.topics import Topics
from edge.delivery.outbox.store import Outbox
from edge.delivery.recorder import GROUP, PATIENCE_S, Recorder
from edge.errors import OutboxError
from edge.event import Evidence
from edge.host.clock import SystemClock

TOPICS = Topics("defectd", "line3")


class Disk(Outbox):
    """An outbox whose disk can be taken away, or be slow."""

    def __init__(self, folder) -> None:
        self.groups: list[int] = []
        self.is_away = False
        self.gate = threading.Event()
        self.gate.set()
        super().__init__(
            folder / "outbox.db", max_rows=10**6, keep_delivered=10, durability="normal", clock=SystemClock()
        )

    def append(self, drafts):
        assert self.gate.wait(10)
        if self.is_away:
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
    """One event: one commit, its own topic, its id kept, a number given."""
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


def test_event_is_shown_before_it_is_stored(disk):
    """What an event stands for can be kept first: then whoever was told of it can rely on that."""
    shown = []
    recorder = recorder_for(disk, before_commit=lambda events: shown.append((list(events), disk.last_seq)))
    one = event()
    recorder.put(one)
    assert recorder.stop(5)
    assert shown == [([one], 0)]
    assert disk.last_seq == 1


def test_what_waits_is_stored_in_groups_and_in_order(disk):
    """While a commit lasts, the next group gathers; the order is that of put."""
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


def test_event_carries_its_picture_when_that_is_on_disk_in_time(disk):
    """What has come by the time of the commit is referred to; the rest is null, and waits for nobody twice."""
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


def test_disk_that_is_away_asks_for_a_picture_once(disk):
    """Attempts to store are repeated, questions are not."""
    disk.is_away = True
    recorder = recorder_for(disk)
    asked = []
    recorder.put(event(), asked.append)
    until(lambda: asked)
    disk.is_away = False
    assert recorder.stop(5)
    assert (len(asked), stored(disk)[0]["evidence"]) == (1, None)


def test_put_does_not_wait_for_the_disk(disk):
    """A disk that stands still costs the caller nothing."""
    recorder = recorder_for(disk)
    disk.gate.clear()
    for _ in range(100):
        recorder.put(event())
    assert recorder.waiting == 100
    disk.gate.set()
    assert recorder.stop(5)


def test_events_survive_a_disk_that_is_away_and_one_line_tells_it(disk, caplog):
    """The outage is logged once, the recovery once, and nothing is lost."""
    recorder = recorder_for(disk)
    disk.is_away = True
    for _ in range(5):
        recorder.put(event())
    until(lambda: "cannot be stored" in caplog.text)
    disk.is_away = False
    until(lambda: recorder.stored == 5)
    assert caplog.text.count("cannot be stored") == 1
    assert caplog.text.count("stored again") == 1
    assert recorder.stop(5)
    assert [e["seq"] for e in stored(disk)] == [1, 2, 3, 4, 5]


def test_full_memory_drops_the_oldest_and_tells_it(disk):
    """What memory could not hold is counted, and one event says how many."""
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
    told = [e["detail"] for e in events if e["type"] == "events.dropped"]
    assert told == [{"first_seq": None, "last_seq": None, "count": 3, "cause": "memory"}]
    assert len(events) == 1 + 10 + 1


def test_stop_gives_up_in_time_and_says_what_is_lost(disk, caplog):
    """With the disk away for good, stop returns by its deadline."""
    recorder = recorder_for(disk)
    disk.is_away = True
    recorder.put(event())
    assert not recorder.stop(0.3)
    assert "1 events could not be stored" in caplog.text


def test_value_without_a_word_in_json_costs_neither_its_event_nor_others(disk, caplog):
    """NaN and foreign objects become null or text; the event is stored all the same."""
    recorder = recorder_for(disk)
    recorder.put(event("coverage.gap", detail={"ratio": float("nan"), "what": object(), "n": 3, "list": (1, 2.5)}))
    recorder.put(event())
    assert recorder.stop(5)
    first, _ = stored(disk)
    assert first["detail"]["ratio"] is None
    assert first["detail"]["n"] == 3
    assert first["detail"]["list"] == [1, 2.5]
    assert "values left out" in caplog.text


def test_origin_is_that_of_the_moment_of_put(disk):
    """An event decided before a model change names the old model, even if stored after."""
    recorder = recorder_for(disk)
    disk.gate.clear()
    recorder.put(event())
    recorder.origin = type(ORIGIN)("line3", "boot-1", {"name": "new", "version": "2", "sha256": "x"}, "c")
    recorder.put(event())
    disk.gate.set()
    assert recorder.stop(5)
    assert [e["model"]["name"] for e in stored(disk)] == ["student", "new"]
