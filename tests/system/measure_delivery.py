"""Measures the cost of delivery on this machine: `python tests/system/measure_delivery.py [SECONDS]`.

- Frame latency from grab to verdict with the broker up and down, in interleaved phases of 10 s (up down down up ...).
- Inserting: time of one commit and bytes written per event, single and in groups, the acknowledgement included.
- Draining 10,000 stored events through a mosquitto on loopback.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

# A script finds `fakes` in tests/, and before that `edge` in the checkout: tests/edge is a folder of that name, too.
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

import yaml
from mosquitto import Mosquitto
from proxy import Proxy

from edge import config
from edge.config import Mqtt
from edge.control.startup import prepare
from edge.daemon import Daemon
from edge.delivery.mqtt.client import opener
from edge.delivery.mqtt.publisher import Publisher
from edge.delivery.mqtt.topics import Topics
from edge.delivery.outbox.reader import read_events
from edge.delivery.outbox.rows import Draft
from edge.delivery.outbox.store import Outbox
from edge.event import Defect, Event, FrameRef, Latency, Origin, as_json
from edge.host.clock import SystemClock, uuid7
from edge.pipeline.histogram import Counts

CLOCK = SystemClock()
TOPICS = Topics("defectd", "line3")
ORIGIN = Origin("line3", "0" * 36, {"name": "student", "version": "1", "sha256": "0" * 64}, "0" * 64)
PHASE_S = 10.0


def outage(folder: Path, port: int, seconds: float) -> None:
    proxy = Proxy(port)
    camera = {"name": "top", "source": "strip:?width=800&height=200", "fps": 30, "budget_ms": 1000}
    settings = {"node": "line3", "mqtt": {"broker": proxy.url}, "cameras": [camera]}
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump({**settings, "state_dir": str(folder / "state")}))
    prepared = prepare(config.load(path), CLOCK)
    daemon = Daemon(prepared, CLOCK)
    thread = threading.Thread(target=daemon.run, name="daemon")
    thread.start()
    time.sleep(8)
    totals: dict[str, list[Counts]] = {"up": [], "down": []}
    histogram = prepared.sessions[0].stages["total"]
    phases = [("up", "down", "down", "up")[n % 4] for n in range(max(4, round(seconds / PHASE_S)))]
    for phase in phases:
        proxy.set("pass" if phase == "up" else "refuse")
        time.sleep(1.5)
        before = histogram.counts()
        time.sleep(PHASE_S - 1.5)
        totals[phase].append(histogram.counts().since(before))
    daemon.stop()
    thread.join()
    proxy.close()
    for phase, parts in totals.items():
        buckets: dict[int, int] = {}
        for part in parts:
            for bucket, n in part.buckets.items():
                buckets[bucket] = buckets.get(bucket, 0) + n
        pooled = Counts(buckets, 0, max(part.max_us for part in parts)).summary()
        each = ", ".join(f"{part.summary().p99:.1f}" for part in parts)
        write(f"broker {phase}: p50 {pooled.p50:.2f} ms, p99 {pooled.p99:.2f} ms, n={pooled.n} frames; p99s: {each}")


def drafts(count: int) -> list[Draft]:
    """Events of realistic size."""
    made = []
    for _ in range(count):
        wall_ns = CLOCK.wall_ns()
        defect = Defect("0" * 36, "scratches", 0.97, (1201, 88, 233, 120), 4, 9, 0.533)
        event_id = uuid7(wall_ns)
        event = Event(
            event_id,
            "top",
            "defect.closed",
            wall_ns,
            CLOCK.monotonic_ns(),
            clock_synced=True,
            defect=defect,
            frame=FrameRef(12345, ""),
            latency_ms=Latency(0.512, 1.234, 4.321, 0.123, 6.19),
        )
        made.append(Draft(TOPICS.event("top"), as_json(event, ORIGIN), event_id, "warning"))
    return made


def written() -> int:
    """Bytes that this process has written to storage."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("write_bytes: ")).split()[1])


def inserting(folder: Path) -> None:
    for durability in ("full", "normal"):
        for group in (1, 20):
            kind: Any = durability
            path = folder / f"{durability}-{group}.db"
            outbox = Outbox(path, max_rows=10**6, keep_delivered=1000, durability=kind, clock=CLOCK)
            took_ms = []
            before, rounds = written(), 3000 // group
            for _ in range(rounds):
                batch = drafts(group)
                started = CLOCK.monotonic_ns()
                seqs = outbox.append(batch)
                took_ms.append((CLOCK.monotonic_ns() - started) / 1e6)
                outbox.ack(seqs)
            took_ms.sort()
            n = rounds * group
            size = len(read_events(path, 0, 1)[0].payload)
            outbox.close()
            write(
                f"{durability}, {group} per commit: p50 {took_ms[rounds // 2]:.2f} ms, p99 "
                f"{took_ms[rounds * 99 // 100]:.2f} ms per commit, {(written() - before) / n / 1024:.1f} KiB written "
                f"per event of {size} bytes, its acknowledgement included, n={n}"
            )


def draining(folder: Path, url: str) -> None:
    for run in range(3):
        outbox = Outbox(folder / f"drain{run}.db", max_rows=10**6, keep_delivered=0, durability="full", clock=CLOCK)
        for _ in range(100):
            outbox.append(drafts(100))
        settings = Mqtt(broker=url)
        publisher = Publisher(opener(settings, "line3"), outbox, TOPICS, CLOCK, settings, version="measure")
        started = CLOCK.monotonic_ns()
        publisher.start()
        while outbox.depth():
            time.sleep(0.01)
        seconds = (CLOCK.monotonic_ns() - started) / 1e9
        publisher.stop(2)
        outbox.close()
        write(f"drained 10000 events in {seconds:.2f} s: {10_000 / seconds:.0f}/s, connecting included")


def write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 160.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "broker").mkdir()
        broker = Mosquitto(folder / "broker").start()
        try:
            inserting(folder)
            draining(folder, broker.url)
            outage(folder, broker.port, seconds)
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
