"""Evidence: a picture of what an event speaks of, and tiles for people to label anew.

The line copies pixels and goes on; the thread `evidence` codes and writes them (`edge.evidence.archive`). An event is
given its picture's path and hash when it is stored, if the picture is on disk by then: what it refers to was there.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from edge import config, event
from edge.errors import EvidenceError
from edge.evidence.archive import Archive, Kind
from edge.frame import Box, Frame, Gray
from edge.host.clock import NS_PER_S, Clock, stamp
from edge.vision.decision import Findings, overlap_px
from edge.vision.drawing import jpeg
from edge.vision.inspector import Verdict

log = logging.getLogger(__name__)

MAX_WAITING: Final = 64
MAX_WAITING_BYTES: Final = 32 << 20
MAX_BYTES: Final = 512 * 1024
"""Of a picture: it can always be fetched by a command."""
TILE_QUALITY: Final = 95
TRIM_S: Final = 10.0
RETRY_S: Final = 30.0
REMEMBERED: Final = 1024
"""Open defects whose picture their closing event repeats."""
Cause = Literal["queue", "rate", "quota", "disk", "error"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A picture to keep.  pixels: (H, W) uint8, a copy.  facts: what the file will say of it."""

    kind: Kind
    camera: str
    pixels: Gray
    facts: dict[str, Any]


class PendingEvidence:
    """A picture on its way to the disk; called with the seconds it may still take, it gives what an event may say."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._kept: event.Evidence | None = None

    def __call__(self, timeout_s: float) -> event.Evidence | None:
        """None: not kept, or not yet."""
        return self._kept if self._done.wait(timeout_s) else None

    def settle(self, kept: event.Evidence | None) -> None:
        self._kept = kept
        self._done.set()


class EvidenceWriter:
    """The thread `evidence`: codes and writes what it is handed.

    `keep` is for the line: it costs microseconds, whatever the disk does. What there is no room for is counted.
    """

    def __init__(self, settings: config.Evidence, archive: Archive, clock: Clock) -> None:
        self.archive = archive
        self._settings = settings
        self._clock = clock
        self._waiting: deque[tuple[Piece, PendingEvidence]] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._tokens = float(settings.per_minute)
        self._tokens_ns = clock.monotonic_ns()
        self._counting = threading.Lock()
        self._told = False
        self.lost: dict[str, int] = dict.fromkeys(("queue", "rate", "quota", "disk", "error"), 0)
        """Pictures that were not kept, since the start."""
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Write what waits, as far as the time goes."""
        until_ns = self._clock.monotonic_ns() + int(timeout_s * NS_PER_S)
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(max(0.0, (until_ns - self._clock.monotonic_ns()) / NS_PER_S))
        with self._changed:
            left, self._waiting = self._waiting, deque()
        for _, exhibit in left:
            self._lose("queue")
            exhibit.settle(None)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def keep(self, piece: Piece) -> PendingEvidence | None:
        """Hand over; None when it cannot be kept."""
        if not self._may(self._clock.monotonic_ns()):
            self._lose("rate")
            return None
        exhibit = PendingEvidence()
        with self._changed:
            waiting_bytes = self._waiting_bytes + piece.pixels.nbytes
            full = len(self._waiting) >= MAX_WAITING or waiting_bytes > MAX_WAITING_BYTES
            if not full and not self._stopping:
                self._waiting.append((piece, exhibit))
                self._waiting_bytes = waiting_bytes
                self._changed.notify()
                return exhibit
        self._lose("queue")
        return None

    def _may(self, now_ns: int) -> bool:
        """Whether the rate allows one more."""
        most = self._settings.per_minute
        self._tokens = min(float(most), self._tokens + (now_ns - self._tokens_ns) / NS_PER_S * most / 60)
        self._tokens_ns = now_ns
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _lose(self, cause: Cause) -> None:
        with self._counting:
            self.lost[cause] += 1

    # ---- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        opened = self._open()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping, TRIM_S if opened else RETRY_S)
                taken = self._waiting.popleft() if self._waiting else None
                if taken is not None:
                    self._waiting_bytes -= taken[0].pixels.nbytes
                elif self._stopping:
                    break
            opened = opened or self._open()
            if taken is not None:
                piece, exhibit = taken
                exhibit.settle(self._kept(piece, opened=opened))
            elif opened:
                self.archive.trim()
        self.archive.close()

    def _open(self) -> bool:
        try:
            found = self.archive.open()
        except EvidenceError as error:
            self._tell(error)
            return False
        if found.damaged or found.evicted:
            log.warning("evidence: %d damaged pictures removed, %d above the quota", found.damaged, found.evicted)
        log.info("evidence: %d pictures, %.1f MiB", found.files, found.size_bytes / (1 << 20))
        return True

    def _kept(self, piece: Piece, *, opened: bool) -> event.Evidence | None:
        if not opened:
            self._lose("disk")
            return None
        settings = self._settings
        quality = TILE_QUALITY if piece.kind in ("audit", "unsure") else settings.quality
        try:
            coded = jpeg(piece.pixels, longest_px=settings.longest_px, quality=quality, most_bytes=MAX_BYTES)
            kept = self.archive.add(piece.kind, piece.camera, coded, piece.facts)
        except EvidenceError as error:
            self._tell(error)
            self._lose("quota" if error.cause == "quota" else "disk")
            return None
        except Exception:  # one picture must not end the others
            log.exception("a picture of camera %s could not be kept", piece.camera)
            self._lose("error")
            return None
        self._told = False
        return kept

    def _tell(self, error: EvidenceError) -> None:
        """Once, until a picture is kept again."""
        if not self._told:
            log.warning("evidence is not kept, inspection and events go on: %s", error)
        self._told = True


class EvidenceSelector:
    """Decides what is kept, and copies it while the frame is there. Owned by the line."""

    def __init__(
        self,
        settings: config.Evidence,
        keep: Callable[[Piece], PendingEvidence | None],
        clock: Clock,
        rng: random.Random | None = None,
    ) -> None:
        self._settings = settings
        self._keep = keep
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 (a sample, no secret)
        self._exhibits: OrderedDict[str, PendingEvidence] = OrderedDict()
        """By track, until it is closed."""
        self._due_ns: dict[tuple[str, Kind], int] = {}

    def see(
        self, fact: event.Event, camera: config.Camera, frame: Frame | None, findings: Findings
    ) -> PendingEvidence | None:
        """The picture of an event, if it is to have one.  findings: of the frame; used before this returns."""
        if fact.type == "defect.closed" and fact.defect is not None:
            return self._exhibits.pop(fact.defect.track_id, None)
        if frame is None:
            return None
        if fact.type == "defect.opened" and fact.defect is not None:
            return self._see_defect(fact, fact.defect, camera, frame, findings)
        if fact.type == "image.bad":
            facts = {"event_id": fact.event_id, **self._facts(frame, (0, 0, *_size(frame))), **(fact.detail or {})}
            return self._keep(Piece("image", camera.name, frame.pixels.copy(), facts))
        return None

    def _see_defect(
        self, fact: event.Event, defect: event.Defect, camera: config.Camera, frame: Frame, findings: Findings
    ) -> PendingEvidence | None:
        crop = _clipped(defect.box_px, camera.tile_px // 4, _size(frame))
        about = {
            "event_id": fact.event_id,
            "track_id": defect.track_id,
            "label": defect.class_name,
            "confidence": round(defect.confidence, 4),
            "box_px": defect.box_px,
            "peak_px": _peak(defect, findings),
        }
        exhibit = self._take("defect", frame, crop, about)
        if self._settings.frames:
            self._take("frame", frame, (0, 0, *_size(frame)), about)
        if exhibit is not None:
            self._exhibits[defect.track_id] = exhibit
            if len(self._exhibits) > REMEMBERED:
                self._exhibits.popitem(last=False)
        return exhibit

    def sample(self, frame: Frame, verdict: Verdict, boxes: Callable[[], Sequence[Box]]) -> None:
        """Now and then a tile for people: one in doubt, or any.  boxes: the tiles of a frame."""
        now_ns = self._clock.monotonic_ns()
        findings = verdict.findings
        if findings.suspects and self._is_due("unsure", frame.camera, now_ns):
            self._take("unsure", frame, self._rng.choice(findings.suspects), {"label": "unsure"})
        if not verdict.skipped and self._is_due("audit", frame.camera, now_ns):
            tile = self._rng.choice(boxes())
            self._take("audit", frame, tile, {"label": _label(tile, findings)})

    def _is_due(self, kind: Kind, camera: str, now_ns: int) -> bool:
        """At random times, `per_hour` on average, so that no rhythm of the line can hide from it."""
        per_hour = self._settings.audit_per_hour if kind == "audit" else self._settings.unsure_per_hour
        due_ns = self._due_ns.get((camera, kind))
        if per_hour <= 0 or (due_ns is not None and now_ns < due_ns):
            return False
        self._due_ns[camera, kind] = now_ns + int(self._rng.expovariate(per_hour / 3600) * NS_PER_S)
        return due_ns is not None

    def _take(self, kind: Kind, frame: Frame, crop: Box, about: dict[str, Any]) -> PendingEvidence | None:
        x, y, w, h = crop
        pixels: Gray = frame.pixels[y : y + h, x : x + w].copy()  # the ring's memory is not ours after this turn
        return self._keep(Piece(kind, frame.camera, pixels, {**about, **self._facts(frame, crop)}))

    def _facts(self, frame: Frame, crop: Box) -> dict[str, Any]:
        time = stamp(self._clock.wall_ns())
        return {"time": time, "frame": frame.number, "source": frame.label[:200], "crop_px": crop}


def _size(frame: Frame) -> tuple[int, int]:
    return frame.pixels.shape[1], frame.pixels.shape[0]


def _clipped(box: Box, margin: int, size: tuple[int, int]) -> Box:
    x, y = max(0, box[0] - margin), max(0, box[1] - margin)
    right, bottom = min(size[0], box[0] + box[2] + margin), min(size[1], box[1] + box[3] + margin)
    return x, y, max(1, right - x), max(1, bottom - y)


def _peak(defect: event.Defect, findings: Findings) -> Box | None:
    """The most certain tile of the flaw in this frame."""
    own = [r for r in findings.regions if r.peak_px is not None and overlap_px(r.box_px, defect.box_px)]
    if not own:
        return None
    return max(own, key=lambda r: (r.class_name == defect.class_name, r.confidence)).peak_px


def _label(tile: Box, findings: Findings) -> str:
    """What inspection said of a tile."""
    if tile in findings.suspects:
        return "unsure"
    over = (r.class_name for r in findings.regions if overlap_px(tile, r.box_px) >= tile[2] * tile[3] // 2)
    return next(over, "good")
