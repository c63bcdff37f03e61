"""What was inspected and what was not: every delivered frame ends in one state (`edge/schema/coverage-1.json`)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

from edge.coverage.runs import Run, RunCause, RunKind, RunLog
from edge.coverage.strip_position import StripPosition
from edge.host.clock import NS_PER_S, stamp

SCHEMA: Final = "defectd.coverage/1"
Cause = Literal["overload", "bad_image", "no_signal", "paused"]
MAX_REASONS: Final = 20
"""Reasons for bad pictures in one gap."""
MAX_LOSSES: Final = 64
"""Stretches of lost frames that are in view at once."""
FrameState = Literal["ok", "defect", "unsure", "bad_image", "late", "dropped"]
"""How a delivered frame ended.  late: its deadline passed first.  dropped: it never reached the inspection loop, or the
node stopped before its turn."""
FRAME_STATES: Final[tuple[FrameState, ...]] = get_args(FrameState)


@dataclass(slots=True)
class _Tally:
    frames: dict[FrameState, int] = field(default_factory=lambda: dict.fromkeys(FRAME_STATES, 0))
    inspected: int = 0
    skipped: int = 0
    outside: int = 0
    partial: int = 0
    no_signal_ns: int = 0
    paused_ns: int = 0
    paused_frames: int = 0
    passed_m: float = 0.0
    inspected_m: float = 0.0
    partial_m: float = 0.0
    unplaced_frames: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "delivered": sum(self.frames.values()),
            "frames": dict(self.frames),
            "tiles": {
                "inspected": self.inspected,
                "skipped": self.skipped,
                **({"outside": self.outside} if self.outside else {}),
            },
            "partial": self.partial,
            "no_signal_s": round(self.no_signal_ns / NS_PER_S, 3),
            "paused_s": round(self.paused_ns / NS_PER_S, 3),
            "paused_frames": self.paused_frames,
        }

    def meters(self) -> dict[str, Any]:
        inspected, partial = round(self.inspected_m, 3), round(self.partial_m, 3)
        missed = max(0.0, round(self.passed_m - inspected - partial, 3))
        return {
            "passed_m": round(inspected + partial + missed, 3),
            "inspected_m": inspected,
            "partial_m": partial,
            "missed_m": missed,
            "unplaced_frames": self.unplaced_frames,
        }


@dataclass(frozen=True, slots=True)
class Gap:
    """Frames that were not inspected.  from_ns, to_ns: monotonic, the first and the last of them."""

    cause: Cause
    from_ns: int
    to_ns: int
    frames: dict[FrameState, int]
    """By state: late, dropped, bad_image."""
    partial: int
    """Frames with skipped tiles."""
    tiles_skipped: int
    reasons: dict[str, int]
    """Bad pictures by their fault."""
    from_position: StripPosition | None = None
    to_position: StripPosition | None = None
    """Position of the strip at the first and the last of these frames, if known."""

    def as_json(self, wall_ns: int, now_ns: int) -> dict[str, Any]:
        """The detail of an event.  wall_ns, now_ns: the present time of both clocks."""
        return {
            "cause": self.cause,
            "from": stamp(wall_ns - (now_ns - self.from_ns)),
            "to": stamp(wall_ns - (now_ns - self.to_ns)),
            "seconds": round((self.to_ns - self.from_ns) / NS_PER_S, 3),
            "frames": self.frames,
            **({"partial": self.partial, "tiles_skipped": self.tiles_skipped} if self.partial else {}),
            **({"reasons": self.reasons} if self.reasons else {}),
        }


class Gaps:
    """What one camera missed since the last `take`, by cause.  Owned by one thread."""

    def __init__(self) -> None:
        self._open: dict[Cause, Gap] = {}

    def miss(
        self,
        cause: Cause,
        at_ns: int,
        state: FrameState,
        frames: int = 1,
        reason: str = "",
        position: StripPosition | None = None,
    ) -> None:
        """Add frames that ended in this state without inspection.  position: of the strip, if known."""
        gap = self._extended(cause, at_ns, position)
        gap.frames[state] = gap.frames.get(state, 0) + frames
        if reason and (reason in gap.reasons or len(gap.reasons) < MAX_REASONS):
            gap.reasons[reason] = gap.reasons.get(reason, 0) + frames

    def skip(self, at_ns: int, tiles: int, position: StripPosition | None = None) -> None:
        """Add tiles of one frame that were skipped to keep its deadline."""
        gap = self._extended("overload", at_ns, position)
        self._open["overload"] = replace(gap, partial=gap.partial + 1, tiles_skipped=gap.tiles_skipped + tiles)

    def take(self) -> tuple[Gap, ...]:
        """The gaps since the last call; none: all frames were inspected completely."""
        gaps = tuple(self._open.values())
        self._open = {}
        return gaps

    def _extended(self, cause: Cause, at_ns: int, position: StripPosition | None) -> Gap:
        gap = self._open.get(cause)
        if gap is None:
            gap = Gap(cause, at_ns, at_ns, {}, 0, 0, {}, position, position)
        elif at_ns != gap.to_ns:
            first, last = gap.from_position, gap.to_position
            if at_ns > gap.to_ns:
                last = position
            elif at_ns < gap.from_ns:
                first = position
            from_ns, to_ns = min(gap.from_ns, at_ns), max(gap.to_ns, at_ns)
            gap = replace(gap, from_ns=from_ns, to_ns=to_ns, from_position=first, to_position=last)
        self._open[cause] = gap
        return gap


class _Meters:
    """How each meter of strip was inspected.  A meter is final when it has left the picture: no more frames show it.

    Frames come in the order in which they were grabbed. A strip that stands still or reverses passes no meters.
    """

    def __init__(self) -> None:
        self._segment: int | None = None
        self._final_m = self._inspected_to_m = self._seen_to_m = 0.0
        """Up to here meters are final; were in completely inspected frames; were in inspected frames at all."""
        self._losses: deque[tuple[float, float, RunCause]] = deque(maxlen=MAX_LOSSES)
        """From, to, and why frames that showed these meters were not inspected; the latest holds."""
        self._idle_cause: RunCause | None = None
        """Why no frames came since the last call of `pass_to`."""
        self.runs = RunLog()

    def pass_to(self, position: StripPosition) -> tuple[float, float, float]:
        """The strip is here now.  Returns the meters since the last call: all, inspected completely, and in part."""
        if position.segment != self._segment:  # the rest of the old segment was in view when its speed was lost
            self._segment = position.segment
            self._final_m = self._inspected_to_m = self._seen_to_m = position.m
            self._losses.clear()
        before, now = self._final_m, max(self._final_m, position.m)
        self._final_m = now
        whole_to = min(now, max(self._inspected_to_m, before))
        seen_to = max(whole_to, min(now, max(self._seen_to_m, before)))
        if now > before:
            self._add(before, whole_to, "whole")
            self._add(whole_to, seen_to, "partial", "overload")
            self._add_missed(seen_to, now)
            self._idle_cause = None
        return now - before, whole_to - before, seen_to - whole_to

    def see(self, to_m: float, *, whole: bool) -> None:
        """An inspected frame showed the strip up to here.  whole: no tile was skipped."""
        self._seen_to_m = max(self._seen_to_m, to_m)
        if whole:
            self._inspected_to_m = max(self._inspected_to_m, to_m)

    def lose(self, cause: Cause, position: StripPosition, view_m: float) -> None:
        """Frames up to this position were not inspected."""
        if position.segment != self._segment:
            return
        from_m, to_m = min(self._final_m, position.m), position.m + view_m
        last = self._losses[-1] if self._losses else None
        if last is not None and last[2] == cause and from_m <= last[1]:
            self._losses[-1] = min(last[0], from_m), max(last[1], to_m), cause
        else:
            self._losses.append((from_m, to_m, cause))

    def idle(self, cause: RunCause) -> None:
        """No frames come for this reason, or came until just now."""
        self._idle_cause = cause

    def _add(self, from_m: float, to_m: float, kind: RunKind, cause: RunCause | None = None) -> None:
        if to_m > from_m:
            self.runs.add(Run(from_m, to_m, kind, cause, self._segment or 0))

    def _add_missed(self, from_m: float, to_m: float) -> None:
        """Divide missed meters by the reasons why frames of them were lost."""
        while self._losses and self._losses[0][1] <= from_m:
            self._losses.popleft()
        at = from_m
        while at < to_m:
            ends = [end for loss in self._losses for end in loss[:2] if at < end < to_m]
            until = min(ends, default=to_m)
            causes = [cause for start, end, cause in self._losses if start <= at < end]
            self._add(at, until, "missed", causes[-1] if causes else self._idle_cause or "unseen")
            at = until


class Coverage:
    """The coverage of one camera, for the present window and since the start.  Owned by one thread."""

    def __init__(self, now_ns: int) -> None:
        """A camera starts without a signal."""
        self._window = _Tally()
        self._total = _Tally()
        self._window_from_ns = now_ns
        self._silent_from_ns: int | None = now_ns
        self._silence_added_to_ns = now_ns
        self._paused_from_ns: int | None = None
        self._meters = _Meters()
        self._has_positions = False

    def locate_frame(self, position: StripPosition | None) -> None:
        """A frame was grabbed with the strip at this position; None: unknown."""
        self._has_positions = True
        if position is not None:
            self.advance_to(position)
            return
        for tally in (self._window, self._total):
            tally.unplaced_frames += 1

    def advance_to(self, position: StripPosition) -> None:
        """The strip is at this position.  Call it also while no frames come: meters that pass unseen then count."""
        if self._silent_from_ns is not None:
            self._meters.idle("no_signal")
        elif self._paused_from_ns is not None:
            self._meters.idle("paused")
        passed, whole, part = self._meters.pass_to(position)
        for tally in (self._window, self._total):
            tally.passed_m += passed
            tally.inspected_m += whole
            tally.partial_m += part

    def add_inspected(self, position: StripPosition, view_m: float, *, whole: bool) -> None:
        """A frame at this position was inspected.  view_m: strip that it shows, m.  whole: no tile was skipped."""
        self._meters.see(position.m + view_m, whole=whole)

    def lose(self, cause: Cause, position: StripPosition, view_m: float) -> None:
        """Frames up to this position were not inspected: a reason for meters that turn out to be missed."""
        self._meters.lose(cause, position, view_m)

    def take_runs(self) -> tuple[Run, ...]:
        """How the meters that became final since the last call were inspected.  Their sums are those of `strip`."""
        return self._meters.runs.take()

    def count(self, state: FrameState, frames: int = 1) -> None:
        """Count frames into one state.  Raises KeyError for a state that does not exist."""
        for tally in (self._window, self._total):
            tally.frames[state] += frames

    def count_tiles(self, inspected: int, skipped: int = 0, outside: int = 0) -> None:
        """Count the tiles of one inspected frame.  The frame is partial when some were skipped.

        outside: tiles beside the strip, where the region follows the strip.
        """
        for tally in (self._window, self._total):
            tally.inspected += inspected
            tally.skipped += skipped
            tally.outside += outside
            tally.partial += skipped > 0

    def signal(self, *, present: bool, now_ns: int) -> None:
        """The camera delivers frames from now on, or none.  Repeated calls change nothing."""
        self._add_silence(now_ns)
        if present:
            if self._silent_from_ns is not None:
                self._meters.idle("no_signal")
            self._silent_from_ns = None
        elif self._silent_from_ns is None:
            self._silent_from_ns = max(now_ns, self._silence_added_to_ns)

    def pause(self, *, on: bool, now_ns: int) -> None:
        """A command paused inspection, or resumed it.  Time without frames counts as no signal in a pause too."""
        self._add_silence(now_ns)
        if not on:
            if self._paused_from_ns is not None:
                self._meters.idle("paused")
            self._paused_from_ns = None
        elif self._paused_from_ns is None:
            self._paused_from_ns = now_ns

    def count_paused(self) -> None:
        """Count a frame that came during a pause: dropped, because of the pause."""
        self.count("dropped")
        for tally in (self._window, self._total):
            tally.paused_frames += 1

    def total(self) -> dict[str, Any]:
        """Since the start, without the present silence.  Any thread may call it."""
        return self._as_json(self._total)

    def _as_json(self, tally: _Tally) -> dict[str, Any]:
        return {**tally.as_json(), "strip": tally.meters() if self._has_positions else None}

    def delivered(self) -> int:
        """Number of frames since the start."""
        return sum(self._total.frames.values())

    def report(self, now_ns: int) -> dict[str, Any]:
        """End the window, and start a new one.  Returns the coverage message of the window that ended."""
        self._add_silence(now_ns)
        message = {
            "schema": SCHEMA,
            "window_s": round((now_ns - self._window_from_ns) / NS_PER_S, 3),
            **self._as_json(self._window),
            "since_start": self._as_json(self._total),
        }
        self._window = _Tally()
        self._window_from_ns = now_ns
        return message

    def _add_silence(self, now_ns: int) -> None:
        """Add silence and pause up to now.  A notice may be older than the last report: no time is added twice."""
        if self._paused_from_ns is not None and now_ns > self._paused_from_ns:
            for tally in (self._window, self._total):
                tally.paused_ns += now_ns - self._paused_from_ns
            self._paused_from_ns = now_ns
        if self._silent_from_ns is None or now_ns <= self._silent_from_ns:
            return
        for tally in (self._window, self._total):
            tally.no_signal_ns += now_ns - self._silent_from_ns
        self._silent_from_ns = self._silence_added_to_ns = now_ns
