"""What was inspected and what was not: every delivered frame in exactly one state (`edge/schema/coverage-1.json`)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from edge.coverage.strip_position import StripPosition
from edge.host.clock import NS_PER_S, stamp

SCHEMA: Final = "defectd.coverage/1"
Cause = Literal["overload", "bad_image", "no_signal", "paused"]
MAX_REASONS: Final = 20
STATES: Final = ("ok", "defect", "unsure", "bad_image", "late", "dropped")


@dataclass(slots=True)
class _Tally:
    frames: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
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

    def metres(self) -> dict[str, Any]:
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
    """Surface that nobody looked at.  from_ns, to_ns: monotonic, the first and the last frame concerned."""

    cause: Cause
    from_ns: int
    to_ns: int
    frames: dict[str, int]
    """By state: late, dropped, bad_image."""
    partial: int
    """Frames of which some tiles were left out."""
    tiles_skipped: int
    reasons: dict[str, int]
    """For bad pictures: frames by what was wrong with them."""
    from_mark: StripPosition | None = None
    to_mark: StripPosition | None = None
    """Where the strip stood at the first and the last of these frames, if that is known."""

    def as_json(self, wall_ns: int, now_ns: int) -> dict[str, Any]:
        """As an event tells it.  wall_ns, now_ns: the present, by both clocks."""
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
    """What one camera missed since the last time it was asked, by cause."""

    def __init__(self) -> None:
        self._open: dict[Cause, Gap] = {}

    def miss(
        self,
        cause: Cause,
        at_ns: int,
        state: str = "",
        frames: int = 1,
        reason: str = "",
        mark: StripPosition | None = None,
    ) -> None:
        """Frames that ended in a state without being looked at.  mark: where the strip stood."""
        gap = self._at(cause, at_ns, mark)
        gap.frames[state] = gap.frames.get(state, 0) + frames
        if reason and (reason in gap.reasons or len(gap.reasons) < MAX_REASONS):
            gap.reasons[reason] = gap.reasons.get(reason, 0) + frames

    def skip(self, at_ns: int, tiles: int, mark: StripPosition | None = None) -> None:
        """Tiles of one frame that were left out to keep its deadline."""
        gap = self._at("overload", at_ns, mark)
        self._open["overload"] = replace(gap, partial=gap.partial + 1, tiles_skipped=gap.tiles_skipped + tiles)

    def take(self) -> tuple[Gap, ...]:
        """The gaps since the last call; none means that everything was looked at."""
        gaps = tuple(self._open.values())
        self._open = {}
        return gaps

    def _at(self, cause: Cause, at_ns: int, mark: StripPosition | None) -> Gap:
        gap = self._open.get(cause)
        if gap is None:
            gap = Gap(cause, at_ns, at_ns, {}, 0, 0, {}, mark, mark)
        elif at_ns != gap.to_ns:
            first, last = gap.from_mark, gap.to_mark
            if at_ns > gap.to_ns:
                last = mark
            elif at_ns < gap.from_ns:
                first = mark
            from_ns, to_ns = min(gap.from_ns, at_ns), max(gap.to_ns, at_ns)
            gap = replace(gap, from_ns=from_ns, to_ns=to_ns, from_mark=first, to_mark=last)
        self._open[cause] = gap
        return gap


class _Metres:
    """What became of each metre of strip; it is settled when it leaves the picture, until then it may still be seen.

    Frames come in the order in which they were grabbed; a strip that stands still or turns back passes nothing.
    """

    def __init__(self) -> None:
        self._leg: int | None = None
        self._settled_m = self._whole_m = self._any_m = 0.0
        """Up to where metres are settled; seen in whole frames; seen at all."""

    def pass_to(self, mark: StripPosition) -> tuple[float, float, float]:
        """The strip stands here: metres that have passed since, seen in whole frames, seen in parts only."""
        if mark.segment != self._leg:  # what is left of the leg before was in view when its speed was lost
            self._leg = mark.segment
            self._settled_m = self._whole_m = self._any_m = mark.m
        before, now = self._settled_m, max(self._settled_m, mark.m)
        self._settled_m = now
        whole = min(now, max(self._whole_m, before)) - before
        seen = min(now, max(self._any_m, before)) - before
        return now - before, whole, seen - whole

    def see(self, to_m: float, *, whole: bool) -> None:
        """An inspected frame showed everything from here to there."""
        self._any_m = max(self._any_m, to_m)
        if whole:
            self._whole_m = max(self._whole_m, to_m)


class Coverage:
    """The account of one camera, for the last window and since the start. Owned by one thread."""

    def __init__(self, now_ns: int) -> None:
        """A camera begins without signal."""
        self._window = _Tally()
        self._total = _Tally()
        self._window_from_ns = now_ns
        self._silent_from_ns: int | None = now_ns
        self._paused_from_ns: int | None = None
        self._metres = _Metres()
        self._measures = False

    def measure(self, mark: StripPosition | None) -> None:
        """A frame was grabbed where the strip stood; None where that is not known."""
        self._measures = True
        if mark is not None:
            self.stand(mark)
            return
        for tally in (self._window, self._total):
            tally.unplaced_frames += 1

    def stand(self, mark: StripPosition) -> None:
        """Where the strip stands; also while there are no frames, so that what runs by unseen is counted."""
        passed, whole, part = self._metres.pass_to(mark)
        for tally in (self._window, self._total):
            tally.passed_m += passed
            tally.inspected_m += whole
            tally.partial_m += part

    def see(self, mark: StripPosition, view_m: float, *, whole: bool) -> None:
        """The frame that was last measured was inspected, whole or in part, and shows so many metres."""
        self._metres.see(mark.m + view_m, whole=whole)

    def count(self, state: str, frames: int = 1) -> None:
        """Count frames into one state.  Raises KeyError for a state that does not exist."""
        for tally in (self._window, self._total):
            tally.frames[state] += frames

    def count_tiles(self, inspected: int, skipped: int = 0, outside: int = 0) -> None:
        """Count the tiles of one inspected frame; it is partial when some were left out.

        outside: beside the strip, where the region follows it.
        """
        for tally in (self._window, self._total):
            tally.inspected += inspected
            tally.skipped += skipped
            tally.outside += outside
            tally.partial += skipped > 0

    def signal(self, *, present: bool, now_ns: int) -> None:
        """The camera came or went; telling it twice changes nothing."""
        self._settle(now_ns)
        if present:
            self._silent_from_ns = None
        elif self._silent_from_ns is None:
            self._silent_from_ns = now_ns

    def pause(self, *, on: bool, now_ns: int) -> None:
        """Inspection was stopped or goes on, by a command. Silence counts as no signal all the same."""
        self._settle(now_ns)
        if not on:
            self._paused_from_ns = None
        elif self._paused_from_ns is None:
            self._paused_from_ns = now_ns

    def count_paused(self) -> None:
        """Count a frame that came during a pause: dropped, with its reason."""
        self.count("dropped")
        for tally in (self._window, self._total):
            tally.paused_frames += 1

    def total(self) -> dict[str, Any]:
        """Since the start, without the silence that still lasts; any thread may ask."""
        return self._said(self._total)

    def _said(self, tally: _Tally) -> dict[str, Any]:
        return {**tally.as_json(), "strip": tally.metres() if self._measures else None}

    def delivered(self) -> int:
        """Frames since the start."""
        return sum(self._total.frames.values())

    def report(self, now_ns: int) -> dict[str, Any]:
        """The coverage message for the window that ends now; a new window begins."""
        self._settle(now_ns)
        message = {
            "schema": SCHEMA,
            "window_s": round((now_ns - self._window_from_ns) / NS_PER_S, 3),
            **self._said(self._window),
            "since_start": self._said(self._total),
        }
        self._window = _Tally()
        self._window_from_ns = now_ns
        return message

    def _settle(self, now_ns: int) -> None:
        """Book silence and pause up to now.  A notice may be older than the last report: nothing is booked twice."""
        if self._paused_from_ns is not None and now_ns > self._paused_from_ns:
            for tally in (self._window, self._total):
                tally.paused_ns += now_ns - self._paused_from_ns
            self._paused_from_ns = now_ns
        if self._silent_from_ns is None or now_ns <= self._silent_from_ns:
            return
        for tally in (self._window, self._total):
            tally.no_signal_ns += now_ns - self._silent_from_ns
        self._silent_from_ns = now_ns
