"""Steps of the wall clock change neither the order of events nor the timing of delivery."""

from __future__ import annotations

import json
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fakes.clock import FakeClock
from fakes.delivery import ORIGIN, FakeBroker, draft, event
from fakes.waiting import until

from edge import cli
from edge.config import Mqtt
from edge.delivery.mqtt.publisher import Publisher
from edge.delivery.mqtt.topics import Topics
from edge.delivery.outbox.limits import PRUNE_BATCH
from edge.delivery.outbox.reader import read_events
from edge.delivery.outbox.store import Outbox
from edge.delivery.recorder import Recorder
from edge.errors import OutboxError
from edge.host.backoff import Backoff
from edge.host.clock import NS_PER_S, SystemClock

HOUR_S = 3600
DAY_S = 24 * HOUR_S
TOPICS = Topics("defectd", "line3")
SETTINGS = Mqtt(broker="mqtt://127.0.0.1:1883", inflight=5, keepalive_s=30)


class SteppedClock(FakeClock):
    """Stands still; a test steps its wall time only."""

    def step(self, seconds: int) -> None:
        self._wall_ns += seconds * NS_PER_S


class WildClock(SystemClock):
    """Its monotonic time is right, but each reading of its wall time is off by another step."""

    def __init__(self) -> None:
        self._steps = cycle((0, -HOUR_S, DAY_S, -365 * DAY_S, HOUR_S))

    def wall_ns(self) -> int:
        return time.time_ns() + next(self._steps) * NS_PER_S


def open_outbox(folder: Path, clock: SystemClock | FakeClock, **more: Any) -> Outbox:
    options = {"max_rows": 1000, "keep_delivered": 10, "durability": "normal", **more}
    return Outbox(folder / "outbox.db", clock=clock, **options)


@pytest.mark.parametrize("steps_s", [(-HOUR_S, DAY_S), (DAY_S, -HOUR_S), (-HOUR_S, -HOUR_S), (DAY_S, -2 * DAY_S)])
def test_seq_order_and_pruning_ignore_the_time(tmp_path: Path, steps_s: tuple[int, int]) -> None:
    """seq has no gap, and the lowest numbers are pruned first, whatever the stamps are, also across a restart."""
    clock = SteppedClock()
    box = open_outbox(tmp_path, clock)
    for step_s in (0, *steps_s):
        clock.step(step_s)
        box.append([draft(n) for n in range(PRUNE_BATCH)])
        box.close()
        box = open_outbox(tmp_path, clock)
    total = 3 * PRUNE_BATCH
    assert [row.seq for row in box.peek(0, total + 1)] == list(range(1, total + 1))
    box.ack(range(1, total - 2))
    assert [row.seq for row in box.peek(0, 10)] == [total - 2, total - 1, total]
    assert [e.seq for e in read_events(tmp_path / "outbox.db", 0, 10_000)] == list(range(total - 12, total + 1))
    assert box.append([draft(0)]) == (total + 1,)
    box.close()


def test_full_outbox_drops_by_seq_not_by_stamp(tmp_path: Path) -> None:
    """The event with the lowest number counts as the oldest, even with the latest stamp."""
    clock = SteppedClock()
    box = open_outbox(tmp_path, clock, max_rows=5)
    box.append([draft(n) for n in range(5)])
    clock.step(-HOUR_S)
    box.append([draft(n) for n in range(3)])
    assert [row.seq for row in box.peek(0, 10)] == [4, 5, 6, 7, 8]
    box.close()


def test_events_since_selects_by_stamp_and_lists_in_order_of_seq(tmp_path: Path) -> None:
    """Events stamped in the last minutes are listed after a step back too, each once and in the order of seq."""
    config = tmp_path / "config.yaml"
    cameras = [{"name": "top", "source": "strip:"}]
    config.write_text(json.dumps({"node": "line3", "cameras": cameras, "state_dir": str(tmp_path)}))
    clock = SteppedClock(time.time_ns() + HOUR_S * NS_PER_S)  # an hour ahead, until it is corrected
    box = open_outbox(tmp_path, clock)
    box.append([draft(1)])
    clock.step(-HOUR_S)
    box.append([draft(2)])
    clock.step(-DAY_S)
    box.append([draft(3)])
    clock.step(DAY_S)
    box.append([draft(4)])

    def shown(*args: str) -> list[int]:
        result = CliRunner().invoke(cli.main, ["events", "-c", str(config), "--json", *args])
        assert result.exit_code == 0, result.output
        return [json.loads(line)["seq"] for line in result.stdout.splitlines()]

    assert shown() == [1, 2, 3, 4]
    assert shown("--since", "10m") == [1, 2, 4]
    assert shown("--since", "2d") == [1, 2, 3, 4]
    box.close()


def test_delivery_is_timed_by_the_monotonic_clock(tmp_path: Path) -> None:
    """While the wall clock jumps events stay in order, retries keep their delay, and only late events are replayed."""
    clock = WildClock()
    box = open_outbox(tmp_path, clock, keep_delivered=1000)
    box.append([draft(n) for n in range(10)])
    broker = FakeBroker()
    full = [True]
    broker.answer = lambda sent: 0x97 if sent.payload.get("seq") == 15 and full and full.pop() else 0
    publisher = Publisher(broker, box, TOPICS, clock, SETTINGS, version="1.0", backoff=Backoff(0.005, 0.02))
    started_ns = time.monotonic_ns()
    publisher.start()
    until(lambda: box.depth() == 0, what="the old events")
    for n in range(10, 20):
        box.append([draft(n)])
        publisher.wake()
    until(lambda: box.depth() == 0, what="the new events")
    broker.up = False
    broker.links[-1].cut()
    box.append([draft(n) for n in range(20, 25)])
    broker.up = True
    until(lambda: box.depth() == 0, what="the events of the outage")
    publisher.stop(2.0)
    took_s = (time.monotonic_ns() - started_ns) / NS_PER_S
    box.close()
    assert list(dict.fromkeys(e["seq"] for e in broker.events)) == list(range(1, 26))  # first arrivals
    replayed = {e["seq"] for e in broker.events if e.get("replayed")}
    assert replayed >= {*range(1, 11), *range(21, 26)}
    assert not replayed & {11, 12, 13}
    assert took_s < 10


def test_recorder_retries_the_disk_by_the_monotonic_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorder uses a recovered disk within two seconds, and a stop meets its deadline."""
    clock = WildClock()
    box = open_outbox(tmp_path, clock)
    append, failures = box.append, [True, True]

    def refuse_twice(drafts: Any) -> Any:
        if failures:
            failures.pop()
            raise OutboxError("no disk")
        return append(drafts)

    monkeypatch.setattr(box, "append", refuse_twice)
    recorder = Recorder(box, ORIGIN, TOPICS, clock)
    recorder.start()
    for _ in range(50):
        recorder.put(event())
    until(lambda: recorder.stored == 50, 5, "the events to be stored")
    assert recorder.stop(2.0)
    box.close()
    assert [e.seq for e in read_events(tmp_path / "outbox.db", 0, 100)] == list(range(1, 51))
