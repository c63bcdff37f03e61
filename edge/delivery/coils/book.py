"""The records that are open, and what goes into which: events by their number, notes by their coil."""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from edge.config import Camera, Config
from edge.coverage import coil_lines
from edge.coverage.coil_lines import CameraView, Defect, Ended, Header, Loss, Note, Resumed, Runs, Setup, Speed, Width
from edge.coverage.strip_trace import RunsNote, SpeedNote, StripTrace, TraceNote, WidthNote
from edge.delivery.coils.coil_file import CoilFile
from edge.delivery.coils.shelf import Shelf
from edge.delivery.outbox.rows import Row
from edge.host import regular_file
from edge.host.clock import NS_PER_S, Clock, stamp
from edge.host.log_throttle import LogThrottle

log = logging.getLogger(__name__)

MIB: Final = 1 << 20
READ_NOTES: Final = 2000
SYNC_NS: Final = 5 * NS_PER_S
"""Between two syncs: a power cut costs the notes of that time, events are read again."""
LATE_NS: Final = 5 * NS_PER_S
"""How long a record stays open after its last meters: defects close a little later."""
MAX_LINGER_NS: Final = 600 * NS_PER_S
"""How long a record waits for the cameras down the line."""
UNKNOWN_NS: Final = 5 * NS_PER_S
"""How long a note waits for the event that starts its coil."""
MAX_UNKNOWN: Final = 16
RETRY_NS: Final = 60 * NS_PER_S
"""Between two attempts to pack a record."""
MAX_OPEN: Final = 3
"""Records that are open at once."""
NONE_BYTES: Final = 4 * MIB
NONE_M: Final = 1000.0
"""Size of a record without a coil; then the next one starts, and the one before goes."""
NOTED: Final = frozenset(
    (
        "camera.lost",
        "camera.restored",
        "camera.paused",
        "camera.resumed",
        "camera.drifted",
        "image.bad",
        "image.restored",
        "speed.stale",
        "speed.restored",
        "width.out",
        "width.restored",
        "thresholds.changed",
        "node.started",
        "node.stopped",
    )
)
"""Events that a record mentions."""


class CoilBook:
    """Owned by one thread.  Nothing that was taken is taken again; it waits in its record until the disk takes it."""

    def __init__(self, settings: Config, shelf: Shelf, trace: StripTrace, clock: Clock, seqs: tuple[int, int]) -> None:
        """seqs: of the first event of this run of the daemon, and the newest of the outbox.  Raises OSError."""
        self._settings = settings
        self._shelf = shelf
        self._trace = trace
        self._clock = clock
        self._forget = 0
        """Notes below this number are in the records, or wait for the disk with them."""
        self._unknown: dict[str | None, int] = {}
        """Coils of notes that have no record: since when."""
        self._none_from_m: float | None = None
        """Where the record without a coil started; None while a coil runs."""
        self._passed: dict[str, set[str]] = {}
        """By record that ended: the cameras that see another coil now."""
        self._ended_ns: dict[str, int] = {}
        self._retry_ns = 0
        self._synced_ns = clock.monotonic_ns()
        self._throttle = LogThrottle(log)
        self._dropped_notes = trace.dropped
        self._is_first = not trace.is_wanted
        """This process has not written any record before."""
        trace.is_wanted = True
        self._records: list[CoilFile] = []
        """In the order of their start; the last one takes what belongs to no other."""
        self._recover(*seqs)
        self.cursor = min(record.seq for record in self._records)
        """The newest event that is in all records, or waits for the disk in them."""

    @property
    def has_waiting(self) -> bool:
        return any(record.has_waiting for record in self._records)

    def close(self) -> None:
        for record in self._records:
            record.close()

    def write(self) -> None:
        """Write what waits, then forget the notes in it.  Raises OSError: all still waits."""
        for record in self._records:
            record.write()
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._synced_ns >= SYNC_NS:
            for record in self._records:
                record.sync()
            self._synced_ns = now_ns
        self._trace.forget(self._forget)
        if self._trace.dropped != self._dropped_notes:
            count = self._trace.dropped - self._dropped_notes
            self._dropped_notes = self._trace.dropped
            self._records[-1].add(Loss("notes on runs and width: the disk took nothing", count, self._now()))

    def _now(self) -> str:
        return stamp(self._clock.wall_ns())

    # ---- events --------------------------------------------------------------------------------------

    def take_event(self, row: Row) -> None:
        """Take the next event."""
        current = self._records[-1]
        is_new = row.seq > current.seq
        counting = [record for record in self._records if record.count(row.seq)]
        self.cursor = max(self.cursor, row.seq)
        try:
            fields = json.loads(row.payload)
            kind = str(fields["type"])
            self._note_setup(current, fields, row.seq)
            if fields.get("defect"):
                record = self._of_coil(fields["defect"].get("coil")) or current
                if record in counting:
                    record.add(_defect(fields, row.seq))
            elif kind == "events.dropped" and current in counting:
                _note_loss(current, fields)
            elif is_new and kind == "coil.ended":
                self._end_coil(fields, row.seq)
            elif is_new and kind == "coil.started":
                if current.ended is None:
                    self._end(current, Ended(row.seq, fields["time"], None, "started"))
                self._open(str(fields["detail"]["coil"]), row.seq, fields["time"])
                self._records[-1].count(row.seq)
            elif kind in NOTED and current in counting:
                reason = (fields.get("detail") or {}).get("reason")
                text = None if reason is None else str(reason)[:200]
                current.add(Note(row.seq, fields["time"], kind, str(fields["camera"]), text))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            words = f"an event of the outbox cannot be read for the record of the coil: {error!r}"
            self._throttle.write(logging.ERROR, words, self._clock.monotonic_ns())
            current.add(Loss(f"the event {row.seq}, which cannot be read", 1, self._now()))

    def open_next(self) -> None:
        """Start a record without a coil, where the last coil has ended and none started."""
        if self._records[-1].ended is not None:
            self._open(None, self._records[-1].seq + 1, self._now())

    def _end_coil(self, fields: dict[str, Any], seq: int) -> None:
        current, detail = self._records[-1], fields["detail"]
        if current.ended is None and current.coil == detail["coil"]:
            length_m = detail["length_m"]
            ended = Ended(seq, fields["time"], None if length_m is None else float(length_m), str(detail["by"]))
            self._end(current, ended)

    def _end(self, record: CoilFile, ended: Ended) -> None:
        record.add(ended)
        self._linger(record)

    def _linger(self, record: CoilFile) -> None:
        """Keep a record open until all cameras have seen its end."""
        self._ended_ns[record.id] = self._clock.monotonic_ns()
        self._passed[record.id] = set()

    def _open(self, coil: str | None, first_seq: int, started: str) -> None:
        """Start the record of a coil; the newest one takes what belongs to no other."""
        before = self._records[-1].setup if self._records else ({}, "")
        header = Header(
            self._shelf.new_id(coil, self._now(), [record.id for record in self._records]),
            coil,
            self._settings.node,
            started,
            first_seq,
            *before,
            cameras=self._cameras(),
        )
        self._records.append(self._shelf.open(header))
        self._unknown.pop(coil, None)

    def _cameras(self) -> tuple[CameraView, ...]:
        return tuple(_view(camera) for camera in self._settings.active_cameras)

    def _note_setup(self, record: CoilFile, fields: dict[str, Any], seq: int) -> None:
        setup = fields["model"], fields["config_sha256"]
        if record.setup != setup and record.seq == seq:
            record.add(Setup(seq, fields["time"], *setup))

    def _of_coil(self, coil: str | None) -> CoilFile | None:
        return next((record for record in reversed(self._records) if record.coil == coil), None)

    # ---- notes of the inspection loop ----------------------------------------------------------------

    def take_notes(self) -> int:
        """Add the notes whose coil is known.  Returns how many were taken, at most READ_NOTES."""
        number, notes = self._trace.read(READ_NOTES)
        first = number - len(notes)
        for index, note in enumerate(notes):
            if first + index < self._forget:
                continue
            record = self._of_coil(note.coil)
            if record is None and self._is_early(note.coil):
                return index  # the event that starts its coil is on its way
            if record is not None and not (isinstance(note, RunsNote) and not note.runs):
                record.add(_item(note))
            self._note_passing(note)
            self._forget = first + index + 1
        self._renew_none()
        return len(notes)

    def _is_early(self, coil: str | None) -> bool:
        """Whether the record of a coil may still come.  After that its notes are left out: it is packed already."""
        now_ns = self._clock.monotonic_ns()
        if coil not in self._unknown and len(self._unknown) >= MAX_UNKNOWN:
            self._unknown.pop(next(iter(self._unknown)))
        return now_ns - self._unknown.setdefault(coil, now_ns) < UNKNOWN_NS

    def _note_passing(self, note: TraceNote) -> None:
        if isinstance(note, RunsNote):
            for record in self._records:
                if record.coil != note.coil and record.id in self._passed:
                    self._passed[record.id].add(note.camera)

    def _renew_none(self) -> None:
        """Without a coil the strip has no end: after some length the next record starts."""
        current = self._records[-1]
        if current.coil is None and current.ended is None:
            start_m = self._none_from_m if self._none_from_m is not None else current.reach_m
            self._none_from_m = start_m
            if current.size > NONE_BYTES or current.reach_m - start_m > NONE_M:
                self._end(current, Ended(current.seq, self._now(), None, "ring"))
                self._open(None, current.seq + 1, self._now())
                self._none_from_m = current.reach_m
        else:
            self._none_from_m = None

    # ---- the folder ----------------------------------------------------------------------------------

    def _recover(self, first_seq: int, newest: int) -> None:
        """Go on with the records that were left open, or start one."""
        records = self._shelf.left_open()
        for record in records:
            if record.seq > newest:
                log.warning("the record %s belongs to another outbox", record.id)
                record.add(Loss("events of another outbox", None, self._now()))
                record.seq = first_seq - 1
            if record.ended is not None:
                self._linger(record)
            elif record is not records[-1] or (record.coil is None and self._is_first):
                # Without a coil, positions count from the start of the node: they start again.
                self._end(record, Ended(record.seq, self._now(), None, "restart"))
            else:
                record.add(Resumed(self._now(), self._cameras()))
        self._records = records
        if not records or records[-1].ended is not None:
            seq = records[-1].seq + 1 if records else first_seq
            self._open(self._kept_coil(), seq, self._now())

    def _kept_coil(self) -> str | None:
        """The coil that runs, for a node that had no record of it."""
        try:
            name = json.loads(regular_file.read(self._settings.state.coil, 4096))["coil"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return name if isinstance(name, str) else None

    def settle(self) -> None:
        """Pack the records that are complete.  Raises OSError."""
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._retry_ns:
            return
        for record in self._records[:-1]:
            since_ns = self._ended_ns.get(record.id)
            if since_ns is None:
                continue
            waited_ns = now_ns - since_ns
            has_passed = waited_ns >= LATE_NS and self._passed[record.id] >= record.cameras
            if has_passed or waited_ns >= MAX_LINGER_NS or len(self._records) > MAX_OPEN:
                self._retry_ns = now_ns + RETRY_NS
                self._shelf.finish(record)
                self._retry_ns = 0
                self._records = [each for each in self._records if each is not record]
                self._passed.pop(record.id)
                self._ended_ns.pop(record.id)
                log.info("the record of %s is complete: %s", record.coil or "no coil", record.id)


def _view(camera: Camera) -> CameraView:
    limits = camera.strip_width
    return CameraView(
        camera.name,
        camera.surface,
        camera.operator_side,
        camera.across_at_mm,
        camera.offset_m,
        None if limits is None else limits.nominal_mm,
        None if limits is None else limits.tolerance_mm,
    )


def _defect(fields: dict[str, Any], seq: int) -> Defect:
    defect, evidence = fields["defect"], fields.get("evidence")
    from_m, length_mm, across = defect["position_m"], defect["length_mm"], defect.get("across_mm")
    return Defect(
        seq,
        fields["type"] == "defect.opened",
        defect["track_id"],
        fields["time"],
        fields["camera"],
        defect.get("surface"),
        defect.get("coil"),
        defect["class"],
        defect.get("severity") or "minor",
        float(defect["confidence"]),
        from_m,
        None if from_m is None or length_mm is None else round(from_m + length_mm / 1000, 4),
        None if across is None else (float(across[0]), float(across[1])),
        length_mm,
        None if evidence is None else evidence["path"],
    )


def _note_loss(record: CoilFile, fields: dict[str, Any]) -> None:
    """Events that were lost before they had a number; a range of numbers is missing by itself."""
    detail = fields["detail"]
    if detail["first_seq"] is None:
        record.add(Loss("events", int(detail["count"]), fields["time"]))


def _item(note: TraceNote) -> coil_lines.Item:
    match note:
        case RunsNote(camera, _, runs):
            return Runs(camera, runs)
        case WidthNote(camera, _, at_m, median, least, most):
            return Width(camera, at_m, round(median, 3), round(least, 3), round(most, 3))
        case SpeedNote(_, at_m, m_per_s):
            return Speed(None if at_m is None else round(at_m, 3), None if m_per_s is None else round(m_per_s, 4))
