"""The thread `evidence`: codes pictures and writes them into the archive (`edge.evidence.archive`).

The inspection loop only puts a copy of the pixels into a bounded queue. When an event is stored, it gets the path and
hash of its picture if that picture is on disk by then: an event never refers to a picture that was not written.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from edge import config, event
from edge.errors import EvidenceError
from edge.evidence.archive import RANKS, Archive, Kind
from edge.frame import Gray
from edge.host.clock import NS_PER_S, Clock
from edge.host.token_bucket import TokenBucket
from edge.host.worker import Worker
from edge.vision.drawing import jpeg

log = logging.getLogger(__name__)

MAX_WAITING: Final = 64
MAX_WAITING_BYTES: Final = 32 << 20
MAX_BYTES: Final = 512 * 1024
"""Of one picture: the command that fetches a picture can always send it."""
TILE_QUALITY: Final = 95
TRIM_S: Final = 10.0
"""Between two looks at the free space of the disk, when no picture comes."""
RETRY_S: Final = 30.0
"""Between two attempts to open the archive, when no picture comes."""
Cause = Literal["queue", "rate", "quota", "disk", "error"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A picture to keep.  pixels: (H, W) uint8, a copy.  facts: what the file will state about it."""

    kind: Kind
    camera: str
    pixels: Gray
    facts: dict[str, Any]


class PendingEvidence:
    """Evidence still being written; call it with a timeout for its reference."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._kept: event.Evidence | None = None

    def __call__(self, timeout_s: float) -> event.Evidence | None:
        """Wait at most that long.  Returns the reference; None when the picture was not kept, or is not written yet."""
        return self._kept if self._done.wait(timeout_s) else None

    def resolve(self, kept: event.Evidence | None) -> None:
        """Set the result, once."""
        self._kept = kept
        self._done.set()


class EvidenceWriter:
    """A queue in front of one thread.

    `keep` is for the inspection loop: it takes microseconds, whatever the disk does. Pictures that do not fit into the
    queue, the rate or the quota are counted in `lost`.
    """

    def __init__(self, settings: config.Evidence, archive: Archive, clock: Clock) -> None:
        self.archive = archive
        self._settings = settings
        self._clock = clock
        self._waiting: deque[tuple[Piece, PendingEvidence]] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._rate = TokenBucket(settings.per_minute / 60, settings.per_minute, clock.monotonic_ns())
        self._counting = threading.Lock()
        self._is_failing = False
        self.lost: dict[str, int] = dict.fromkeys(get_args(Cause), 0)
        """Pictures that were not kept, since the start, by cause."""
        self._worker = Worker("evidence", self._run, clock)

    def start(self) -> None:
        self._worker.start()

    def stop(self, timeout_s: float) -> bool:
        """Write what waits, within this time; the rest counts as lost.  False when the thread still runs then."""
        until_ns = self._clock.monotonic_ns() + int(timeout_s * NS_PER_S)
        with self._changed:
            self._worker.ask_stop()
            self._changed.notify()
        ended = self._worker.join(max(0.0, (until_ns - self._clock.monotonic_ns()) / NS_PER_S))
        with self._changed:
            left, self._waiting = self._waiting, deque()
        for _, pending in left:
            self._lose("queue")
            pending.resolve(None)
        return ended

    @property
    def alive(self) -> bool:
        return self._worker.alive

    def keep(self, piece: Piece) -> PendingEvidence | None:
        """Put a picture into the queue.  Returns None when rate or queue have no place for it."""
        if not self._rate.take(self._clock.monotonic_ns()):
            self._lose("rate")
            return None
        pending = PendingEvidence()
        with self._changed:
            waiting_bytes = self._waiting_bytes + piece.pixels.nbytes
            full = len(self._waiting) >= MAX_WAITING or waiting_bytes > MAX_WAITING_BYTES
            if not full and not self._worker.is_stopping:
                self._waiting.append((piece, pending))
                self._waiting_bytes = waiting_bytes
                self._changed.notify()
                return pending
        self._lose("queue")
        return None

    def _lose(self, cause: Cause) -> None:
        with self._counting:
            self.lost[cause] += 1

    # ---- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        opened = self._open()
        while True:
            self._worker.beat()
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._worker.is_stopping, TRIM_S if opened else RETRY_S)
                taken = self._waiting.popleft() if self._waiting else None
                if taken is not None:
                    self._waiting_bytes -= taken[0].pixels.nbytes
                elif self._worker.is_stopping:
                    break
            opened = opened or self._open()
            if taken is not None:
                piece, pending = taken
                pending.resolve(self._write(piece, opened=opened))
            elif opened:
                self.archive.trim()
        self.archive.close()

    def _open(self) -> bool:
        try:
            found = self.archive.open()
        except EvidenceError as error:
            self._log_once(error)
            return False
        if found.damaged or found.evicted:
            log.warning("evidence: removed %d damaged pictures and %d above the quota", found.damaged, found.evicted)
        log.info("evidence: %d pictures, %.1f MiB", found.files, found.size_bytes / (1 << 20))
        return True

    def _write(self, piece: Piece, *, opened: bool) -> event.Evidence | None:
        if not opened:
            self._lose("disk")
            return None
        settings = self._settings
        quality = TILE_QUALITY if RANKS[piece.kind] == 0 else settings.quality
        try:
            coded = jpeg(piece.pixels, longest_px=settings.longest_px, quality=quality, max_bytes=MAX_BYTES)
            kept = self.archive.add(piece.kind, piece.camera, coded, piece.facts)
        except EvidenceError as error:
            self._log_once(error)
            self._lose("quota" if error.cause == "quota" else "disk")
            return None
        except Exception:  # one picture must not end the thread
            log.exception("a picture of camera %s could not be kept", piece.camera)
            self._lose("error")
            return None
        self._is_failing = False
        return kept

    def _log_once(self, error: EvidenceError) -> None:
        """Log the first failure; the next one only after a picture was kept in between."""
        if not self._is_failing:
            log.warning("evidence is not kept, inspection and events go on: %s", error)
        self._is_failing = True
