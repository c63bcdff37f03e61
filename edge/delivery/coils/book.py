"""The records that are open, and what goes into which: events by their number, notes by their coil."""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from edge.config import Camera, Config
from edge.coverage import coil_lines
from edge.coverage.coil_lines import (
    CameraView,
    Defect,
    Ended,
    Header,
    Interval,
    Loss,
    Note,
    Resumed,
    Runs,
    Setup,
    Speed,
    Width,
)
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
"""Records of the strip, and of each lane, that are open at once."""
MAX_KEPT_BYTES: Final = 65_536
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
        self._unknown: dict[tuple[str | None, str | None], int] = {}
        """Lanes and coils of notes that have no record: since when."""
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
        """In the order of their start; the newest one of the strip takes what belongs to no other."""
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
        """Write what waits, then forget the notes in it.  Raises OSError: all still waits.

        A lane's new record comes first: no other one may be past the event that starts it, and that one be lost.
        """
        for record in sorted(self._records, key=lambda each: not (each.is_new and each.lane is not None)):
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
            for record in self._running():
                record.add(Loss("notes on runs and width: the disk took nothing", count, self._now()))

    def _now(self) -> str:
        return stamp(self._clock.wall_ns())

    # ---- events --------------------------------------------------------------------------------------

    def _newest(self, lane: str | None) -> CoilFile | None:
        return next((record for record in reversed(self._records) if record.lane == lane), None)

    @property
    def _strip(self) -> CoilFile:
        """The record of the strip, which there always is."""
        record = self._newest(None)
        assert record is not None
        return record

    def _running(self) -> list[CoilFile]:
        """The newest record of the strip, and those of lanes whose coil has not ended."""
        newest = {record.lane: record for record in self._records}
        return [record for lane, record in newest.items() if lane is None or record.ended is None]

    def take_event(self, row: Row) -> None:
        """Take the next event."""
        current = self._strip
        is_new = row.seq > current.seq
        counting = [record for record in self._records if record.count(row.seq)]
        running = [record for record in self._running() if record in counting]
        self.cursor = max(self.cursor, row.seq)
        try:
            fields = json.loads(row.payload)
            kind = str(fields["type"])
            for record in self._running():
                self._note_setup(record, fields, row.seq)
            if fields.get("defect"):
                self._take_defect(fields, row.seq, counting)
            elif kind == "events.dropped":
                for record in running:
                    _note_loss(record, fields)
            elif kind in ("coil.started", "coil.ended"):
                self._change_coil(kind, fields, row.seq, is_new=is_new)
            elif kind in NOTED:
                for record in running:
                    record.add(_note(fields, row.seq))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            words = f"an event of the outbox cannot be read for the record of the coil: {error!r}"
            self._throttle.write(logging.ERROR, words, self._clock.monotonic_ns())
            for record in running:
                record.add(Loss(f"the event {row.seq}, which cannot be read", 1, self._now()))

    def _take_defect(self, fields: dict[str, Any], seq: int, counting: list[CoilFile]) -> None:
        """Into the record of the strip's coil, and into those of the lanes' coils that it lies on."""
        strip = self._of_coil(fields["defect"].get("coil"), None) or self._strip
        if strip in counting:
            strip.add(_defect(fields, seq))
        for part in fields["defect"].get("lane_coils", ()):
            record = self._of_coil(part["coil"], part["lane"])
            if record is not None and record in counting:
                record.add(_defect(fields, seq, str(part["coil"]), part["position_m"]))

    def open_next(self) -> None:
        """Start a record without a coil, where the last coil has ended and none started."""
        if self._strip.ended is not None:
            self._open(None, self._strip.seq + 1, self._now())

    def _is_new_to(self, lane: str, seq: int) -> bool:
        """Whether a coil of this lane starts or ends with this event, rather than before the lane's record."""
        record = self._newest(lane)
        if record is None or record.header is None:
            return True
        return seq > record.header.first_seq and (record.ended is None or seq > record.ended.seq)

    def _change_coil(self, kind: str, fields: dict[str, Any], seq: int, *, is_new: bool) -> None:
        """is_new: to the record of the strip."""
        detail = fields["detail"]
        lane = detail.get("lane")
        if not (is_new if lane is None else self._is_new_to(lane, seq)):
            return
        current = self._newest(lane)
        is_open = current is not None and current.ended is None
        if kind == "coil.started":
            if current is not None and is_open:
                self._end(current, Ended(seq, fields["time"], None, "started"))
            self._open(str(detail["coil"]), seq, fields["time"], lane).count(seq)
        elif current is not None and is_open and current.coil == detail["coil"]:
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

    def _open(self, coil: str | None, first_seq: int, started: str, lane: str | None = None) -> CoilFile:
        """Start the record of a coil."""
        before = self._records[-1].setup if self._records else ({}, "")
        header = Header(
            self._shelf.new_id(coil, self._now(), [record.id for record in self._records]),
            coil,
            self._settings.node,
            started,
            first_seq,
            *before,
            cameras=self._cameras(lane),
            lane=lane,
            lane_mm=self._lane_mm(lane),
        )
        record = self._shelf.open(header)
        self._records.append(record)
        self._unknown.pop((lane, coil), None)
        return record

    def _cameras(self, lane: str | None) -> tuple[CameraView, ...]:
        """The cameras that see the strip, or this lane of it."""
        return tuple(
            _view(camera)
            for camera in self._settings.active_cameras
            if lane is None or any(each.name == lane for each in camera.lanes)
        )

    def _lane_mm(self, lane: str | None) -> Interval | None:
        lanes = [each for camera in self._settings.active_cameras for each in camera.lanes if each.name == lane]
        return (min(each.from_mm for each in lanes), max(each.to_mm for each in lanes)) if lanes else None

    def _note_setup(self, record: CoilFile, fields: dict[str, Any], seq: int) -> None:
        setup = fields["model"], fields["config_sha256"]
        if record.setup != setup and record.seq == seq:
            record.add(Setup(seq, fields["time"], *setup))

    def _of_coil(self, coil: str | None, lane: str | None) -> CoilFile | None:
        found = (record for record in reversed(self._records) if record.coil == coil and record.lane == lane)
        return next(found, None)

    # ---- notes of the inspection loop ----------------------------------------------------------------

    def take_notes(self) -> int:
        """Add the notes whose coil is known.  Returns how many were taken, at most READ_NOTES."""
        number, notes = self._trace.read(READ_NOTES)
        first = number - len(notes)
        for index, note in enumerate(notes):
            if first + index < self._forget:
                continue
            lane = note.lane if isinstance(note, RunsNote) else None
            record = self._of_coil(note.coil, lane)
            if record is None and (lane is None or note.coil is not None) and self._is_early(lane, note.coil):
                return index  # the event that starts its coil is on its way
            if record is not None and not (isinstance(note, RunsNote) and not note.runs):
                record.add(_item(note))
            self._note_passing(note)
            self._forget = first + index + 1
        self._renew_none()
        return len(notes)

    def _is_early(self, lane: str | None, coil: str | None) -> bool:
        """Whether the record of a coil may still come.  After that its notes are left out: it is packed already."""
        now_ns, which = self._clock.monotonic_ns(), (lane, coil)
        if which not in self._unknown and len(self._unknown) >= MAX_UNKNOWN:
            self._unknown.pop(next(iter(self._unknown)))
        return now_ns - self._unknown.setdefault(which, now_ns) < UNKNOWN_NS

    def _note_passing(self, note: TraceNote) -> None:
        if isinstance(note, RunsNote):
            for record in self._records:
                if record.lane == note.lane and record.coil != note.coil and record.id in self._passed:
                    self._passed[record.id].add(note.camera)

    def _renew_none(self) -> None:
        """Without a coil the strip has no end: after some length the next record starts."""
        current = self._strip
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
        newest_of = {record.lane: record for record in records}
        for record in records:
            if record.seq > newest:
                log.warning("the record %s belongs to another outbox", record.id)
                record.add(Loss("events of another outbox", None, self._now()))
                record.seq = first_seq - 1
            if record.ended is not None:
                self._linger(record)
            elif record is not newest_of[record.lane] or (record.coil is None and self._is_first):
                # Without a coil, positions count from the start of the node: they start again.
                self._end(record, Ended(record.seq, self._now(), None, "restart"))
            else:
                record.add(Resumed(self._now(), self._cameras(record.lane)))
        self._records = records
        kept, strip = self._kept_coils(), newest_of.get(None)
        if strip is None or strip.ended is not None:
            seq = first_seq if strip is None else strip.seq + 1
            self._open(kept.pop(None, None), seq, self._now())
        kept.pop(None, None)
        for lane, coil in kept.items():
            if lane not in newest_of:
                self._open(coil, self._strip.seq + 1, self._now(), lane)

    def _kept_coils(self) -> dict[str | None, str]:
        """The coil of the strip (None), and of each lane, that run: for a node that had no record of them."""
        try:
            content = json.loads(regular_file.read(self._settings.state.coil, MAX_KEPT_BYTES))
            named = {None: content.get("coil"), **content.get("lanes", {})}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}
        return {lane: name for lane, name in named.items() if isinstance(name, str)}

    def settle(self) -> None:
        """Pack the records that are complete.  Raises OSError."""
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._retry_ns:
            return
        strip = self._strip
        for record in self._records[:]:
            if record is strip:
                continue
            since_ns = self._ended_ns.get(record.id)
            if since_ns is None:
                continue
            waited_ns = now_ns - since_ns
            has_passed = waited_ns >= LATE_NS and self._passed[record.id] >= record.cameras
            of_lane = sum(each.lane == record.lane for each in self._records)
            if has_passed or waited_ns >= MAX_LINGER_NS or of_lane > MAX_OPEN:
                self._retry_ns = now_ns + RETRY_NS
                for each in self._records:
                    each.sync()  # none may have to read the start of this coil again
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


def _defect(fields: dict[str, Any], seq: int, *on_lane: Any) -> Defect:
    """on_lane: the coil of a lane, and the place on it."""
    defect, evidence = fields["defect"], fields.get("evidence")
    coil, from_m = on_lane or (defect.get("coil"), defect["position_m"])
    length_mm, across = defect["length_mm"], defect.get("across_mm")
    return Defect(
        seq,
        fields["type"] == "defect.opened",
        defect["track_id"],
        fields["time"],
        fields["camera"],
        defect.get("surface"),
        coil,
        defect["class"],
        defect.get("severity") or "minor",
        float(defect["confidence"]),
        from_m,
        None if from_m is None or length_mm is None else round(from_m + length_mm / 1000, 4),
        None if across is None else (float(across[0]), float(across[1])),
        length_mm,
        None if evidence is None else evidence["path"],
        defect.get("lane"),
    )


def _note(fields: dict[str, Any], seq: int) -> Note:
    reason = (fields.get("detail") or {}).get("reason")
    text = None if reason is None else str(reason)[:200]
    return Note(seq, fields["time"], str(fields["type"]), str(fields["camera"]), text)


def _note_loss(record: CoilFile, fields: dict[str, Any]) -> None:
    """Events that were lost before they had a number; a range of numbers is missing by itself."""
    detail = fields["detail"]
    if detail["first_seq"] is None:
        record.add(Loss("events", int(detail["count"]), fields["time"]))


def _item(note: TraceNote) -> coil_lines.Item:
    match note:
        case RunsNote(camera, _, runs, _):
            return Runs(camera, runs)
        case WidthNote(camera, _, at_m, median, least, most):
            return Width(camera, at_m, round(median, 3), round(least, 3), round(most, 3))
        case SpeedNote(_, at_m, m_per_s):
            return Speed(None if at_m is None else round(at_m, 3), None if m_per_s is None else round(m_per_s, 4))
