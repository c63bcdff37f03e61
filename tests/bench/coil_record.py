"""Disk, memory and time of the record of a long coil: 24 hours at 5 m/s with one defect a meter, two cameras.

    python tests/bench/coil_record.py [HOURS] [FOLDER]

Feeds the record of the daemon second by second, as fast as it goes, and prints what that took; then reads it back.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes.clock import FakeClock

from edge.config import parse
from edge.coverage import coil_record
from edge.coverage.coil_map import CoilMaps
from edge.coverage.runs import Run
from edge.coverage.strip_trace import RunsNote, SpeedNote, StripTrace, WidthNote
from edge.delivery.coils.output import CoilsOutput
from edge.delivery.outbox.rows import Row
from edge.delivery.output import OutputContext
from edge.event import Defect, Event, Evidence, Origin, as_json

SPEED = 5.0
CAMERAS = ("top", "bottom")
ORIGIN = Origin("line3", "boot-1", {"name": "student", "version": "1", "sha256": "ab" * 32}, "cd" * 32)


class Rows:
    """The outbox, as far as the record reads it."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._rows: list[Row] = []
        self.last_seq = 0

    def put(self, kind: Any, camera: str, detail: Any = None, defect: Defect | None = None) -> None:
        self.last_seq += 1
        event = Event.now(self._clock, camera, kind, detail)
        payload = {**as_json(event, ORIGIN), "seq": self.last_seq}
        if defect is not None:
            payload["defect"] = defect.as_json()
            payload["evidence"] = Evidence(
                f"defect/{self.last_seq:010d}-{camera}-0123456789abcdef.jpg", "ab" * 32
            ).as_json()
        text = json.dumps(payload, separators=(",", ":")).encode()
        self._rows.append(Row(self.last_seq, event.event_id, "t", "info", text, event.wall_ns))

    def after(self, seq: int, limit: int) -> list[Row]:
        return [row for row in self._rows if row.seq > seq][:limit]

    def hold(self, _reader: str, after_seq: int) -> None:
        self._rows = [row for row in self._rows if row.seq > after_seq]

    def release(self, reader: str) -> None: ...

    def depth(self) -> int:
        return 0


def rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write(hours: float, folder: Path) -> Path:
    """The folder of records."""
    clock = FakeClock()
    named = [{"name": name, "source": "strip:", "surface": name} for name in CAMERAS]
    raw = {"node": "line3", "state_dir": "state", "cameras": named}
    settings = parse(raw, origin="bench", base=folder, env={})
    rows, trace = Rows(clock), StripTrace()
    output = CoilsOutput(OutputContext(settings, rows, clock, 1, trace=trace), trace)
    rows.put("coil.started", "node", {"coil": "A", "position_known": True, "by": "command"})
    output.turn()
    first_mb, worst_ms, started = rss_mb(), 0.0, time.process_time()
    seconds = int(hours * 3600)
    for second in range(seconds):
        at = second * SPEED
        for n in range(int(SPEED)):
            seen = Defect(
                f"01a22951-f3c1-710e-a3ce-{second * 10 + n:012d}",
                "scratches",
                0.9677,
                (0, 0, 200, 200),
                5,
                4,
                position_m=at + n,
                length_mm=23.5,
                coil="A",
                surface="top",
                across_mm=(120.0, 158.0),
            )
            rows.put("defect.opened", "top", defect=seen)
            rows.put("defect.closed", "top", defect=seen)
            trace.put([WidthNote(CAMERAS[0], "A", at + n, 1250.12, 1249.8, 1250.6)])
        kind: Any = "missed" if second % 100 == 0 else "whole"
        cause: Any = "overload" if kind == "missed" else None
        trace.put([RunsNote(name, "A", (Run(at, at + SPEED, kind, cause),)) for name in CAMERAS])
        if second % 60 == 0:
            trace.put([SpeedNote("A", at, SPEED + second % 7 / 10)])
        clock.advance(1.0)
        before = time.perf_counter()
        output.turn()
        worst_ms = max(worst_ms, (time.perf_counter() - before) * 1000)
    spent = time.process_time() - started
    path = coil_record.current(settings.state.coils)
    assert path is not None
    size_mb = path.stat().st_size / 1e6
    say(f"{hours:g} h, {seconds * SPEED / 1000:.0f} km, {seconds * int(SPEED)} defects: {size_mb:.1f} MB")
    say(f"  memory +{rss_mb() - first_mb:.1f} MB, {spent / seconds * 1000:.2f} ms of the processor a second")
    say(f"  worst turn {worst_ms:.0f} ms")
    before = time.perf_counter()
    maps, base_mb = CoilMaps(settings.state.coils), rss_mb()
    coil, _ = maps.running(lambda: True)
    say(f"map of the running coil: {time.perf_counter() - before:.1f} s at first, memory +{rss_mb() - base_mb:.1f} MB")
    before = time.perf_counter()
    answer = json.dumps(coil.view(None, None))
    say(f"  whole view {len(answer) / 1000:.0f} kB in {(time.perf_counter() - before) * 1000:.0f} ms")
    rows.put("coil.ended", "node", {"coil": "A", "length_m": seconds * SPEED, "by": "command"})
    output.turn()
    trace.put([RunsNote(name, None, ()) for name in CAMERAS])
    clock.advance(10.0)
    before = time.perf_counter()
    while output.turn() or list(settings.state.coils.glob("*-A.jsonl")):
        clock.advance(10.0)
    packed = next(settings.state.coils.glob("*-A.jsonl.gz"))
    say(f"packed: {packed.stat().st_size / 1e6:.1f} MB in {time.perf_counter() - before:.1f} s")
    return packed


def main(hours: float, folder: Path) -> None:
    packed = write(hours, folder)
    before, base_mb = time.perf_counter(), rss_mb()
    record = coil_record.read(packed)
    taken_s, taken_mb = time.perf_counter() - before, rss_mb() - base_mb
    say(f"read as a whole: {len(record.defects)} defects in {taken_s:.1f} s, memory +{taken_mb:.0f} MB")
    say(f"complete: {record.summary.is_complete}, meters {record.summary.meters['top']}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 24.0, Path(sys.argv[2] if len(sys.argv) > 2 else made))
