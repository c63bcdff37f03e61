"""A record that is being written: an outbox, the notes of a loop, and the output between them, without its thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.config import parse
from edge.coverage import coil_record
from edge.coverage.coil_record import CoilRecord
from edge.coverage.runs import Run
from edge.coverage.strip_trace import RunsNote, StripTrace, TraceNote
from edge.delivery.coils.output import CoilsOutput
from edge.delivery.outbox.rows import Draft
from edge.delivery.outbox.store import Outbox
from edge.delivery.output import OutputContext
from edge.event import EVENT_TYPES, Defect, Event, Evidence, Origin, as_json
from fakes.clock import FakeClock
from fakes.outbox import open_reporting

ORIGIN = Origin("line3", "boot-1", {"name": "student", "version": "1", "sha256": "ab" * 32}, "cd" * 32)


class RecordScene:
    """Each `turn` is one of the output's thread.  `kill` forgets what was not written."""

    def __init__(
        self,
        folder: Path,
        *,
        cameras: tuple[str, ...] = ("top",),
        lanes: tuple[tuple[str, float, float], ...] = (),
        **coils: Any,
    ) -> None:
        self.folder = folder
        self.clock = FakeClock()
        side_by_side = [{"name": name, "from_mm": start, "to_mm": end} for name, start, end in lanes]
        keys = {"source": "strip:", "surface": "top", "operator_side": "left", "lanes": side_by_side}
        named = [{"name": name, **keys} for name in cameras]
        raw = {"node": "line3", "state_dir": "state", "cameras": named, "coils": coils}
        self.settings = parse(raw, origin="test", base=folder, env={})
        self.settings.state_dir.mkdir()
        self.box: Outbox = open_reporting(self.settings.state_dir, max_rows=100_000, keep_delivered=100_000)
        self.origin = ORIGIN
        self.trace = StripTrace()
        self.output = self.started()

    @property
    def coils(self) -> Path:
        return self.settings.state.coils

    def started(self) -> CoilsOutput:
        context = OutputContext(self.settings, self.box, self.clock, self.box.last_seq + 1, trace=self.trace)
        self.output = CoilsOutput(context, self.trace)
        return self.output

    def kill(self) -> None:
        """The process ends at once and starts again: notes and lines in memory are gone."""
        self.output._book.close()
        self.trace = StripTrace()
        self.started()

    def turn(self, seconds: float = 1.0) -> None:
        self.clock.advance(seconds)
        while self.output.turn():
            pass

    def settle(self) -> None:
        """Let ended records be packed."""
        self.turn(6.0)
        self.turn(6.0)

    def put(self, kind: Any, camera: str = "node", detail: dict[str, Any] | None = None, **rest: Any) -> int:
        event = Event.now(self.clock, camera, kind, detail)
        payload = {**as_json(event, self.origin), **rest}
        return self.box.append([Draft("n/event", payload, event.event_id, EVENT_TYPES[event.type])])[0]

    def start_coil(self, name: str, **lane: str) -> None:
        self.put("coil.started", detail={"coil": name, "position_known": True, "by": "command", **lane})

    def end_coil(self, name: str, length_m: float | None) -> None:
        """It ends, and every camera is past it."""
        self.put("coil.ended", detail={"coil": name, "length_m": length_m, "by": "command"})
        self.turn()
        self.note(*(RunsNote(camera.name, None, ()) for camera in self.settings.active_cameras))

    def defect(
        self, at_m: float | None, *, coil: str | None, camera: str = "top", closed: bool = True, **rest: Any
    ) -> None:
        """A defect that opens, and closes."""
        values: dict[str, Any] = {
            "track_id": f"{camera}-{at_m}",
            "class_name": "scratches",
            "confidence": 0.9,
            "box_px": (0, 0, 9, 9),
            "frames": 3,
            "tiles": 2,
            "position_m": at_m,
            "length_mm": 20.0,
            "coil": coil,
            "surface": "top",
            "across_mm": (100.0, 120.0),
            **rest,
        }
        seen = Defect(**values).as_json()
        evidence = Evidence(f"defect/{camera}.jpg", "ab" * 32).as_json()
        self.put("defect.opened", camera, defect=seen, evidence=evidence)
        if closed:
            self.put("defect.closed", camera, defect=seen, evidence=evidence)

    def runs(
        self, *runs: tuple[float, float, str], coil: str | None, camera: str = "top", lane: str | None = None
    ) -> None:
        made = tuple(Run(a, b, kind, None if kind == "whole" else "overload") for a, b, kind in runs)  # type: ignore[arg-type]
        self.note(RunsNote(camera, coil, made, lane))

    def note(self, *notes: TraceNote) -> None:
        self.trace.put(notes)

    def record(self, wanted: str) -> CoilRecord:
        path = coil_record.find(self.coils, wanted)
        assert path is not None, wanted
        return coil_record.read(path)
