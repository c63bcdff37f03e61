"""Which pictures are kept: of each defect, of a bad picture, and now and then a tile for people to label.

The inspection loop calls the selector while it holds the frame: the selector copies the pixels and returns at once.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final

from edge import config, event
from edge.evidence.archive import Kind
from edge.evidence.writer import PendingEvidence, Piece
from edge.frame import Box, Frame, Gray
from edge.host.clock import NS_PER_S, Clock, stamp
from edge.vision.boxes import overlap_px
from edge.vision.decision import Detections
from edge.vision.inspector import Verdict

MAX_OPEN_DEFECTS: Final = 1024
"""Open defects whose picture the closing event repeats."""


class EvidenceSelector:
    """Selects and copies pictures while their frame is valid.  Owned by the inspection loop."""

    def __init__(
        self,
        settings: config.Evidence,
        keep: Callable[[Piece], PendingEvidence | None],
        clock: Clock,
        rng: random.Random | None = None,
    ) -> None:
        """keep: takes over a picture, such as `EvidenceWriter.keep`."""
        self._settings = settings
        self._keep = keep
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 (a sample, no secret)
        self._pending: OrderedDict[str, PendingEvidence] = OrderedDict()
        """By track, until the track closes."""
        self._due_ns: dict[tuple[str, Kind], int] = {}

    def select(
        self, fact: event.Event, camera: config.Camera, frame: Frame | None, detections: Detections
    ) -> PendingEvidence | None:
        """Select the picture of an event; None for an event without one.

        detections: of the frame.  Neither they nor the frame are used after the return.
        """
        if fact.type == "defect.closed" and fact.defect is not None:
            return self._pending.pop(fact.defect.track_id, None)
        if frame is None:
            return None
        if fact.type == "defect.opened" and fact.defect is not None:
            return self._keep_defect(fact, fact.defect, camera, frame, detections)
        if fact.type == "image.bad":
            facts = {"event_id": fact.event_id, **self._facts(frame, (0, 0, *_size(frame))), **(fact.detail or {})}
            return self._keep(Piece("image", camera.name, frame.pixels.copy(), facts))
        return None

    def sample(self, frame: Frame, verdict: Verdict, boxes: Callable[[], Sequence[Box]]) -> None:
        """Now and then keep a tile for people to label: an unsure one, or any.  boxes: gives the tiles of a frame."""
        now_ns = self._clock.monotonic_ns()
        detections = verdict.detections
        if detections.unsure_boxes and self._is_due("unsure", frame.camera, now_ns):
            self._keep_crop("unsure", frame, self._rng.choice(detections.unsure_boxes), {"label": "unsure"})
        if not verdict.skipped and self._is_due("audit", frame.camera, now_ns):
            tile = self._rng.choice(boxes())
            self._keep_crop("audit", frame, tile, {"label": _label(tile, detections)})

    def _keep_defect(
        self, fact: event.Event, defect: event.Defect, camera: config.Camera, frame: Frame, detections: Detections
    ) -> PendingEvidence | None:
        crop = _with_margin(defect.box_px, camera.tile_px // 4, _size(frame))
        about = {
            "event_id": fact.event_id,
            "track_id": defect.track_id,
            "label": defect.class_name,
            "confidence": round(defect.confidence, 4),
            "box_px": defect.box_px,
            "peak_px": _peak(defect, detections),
        }
        pending = self._keep_crop("defect", frame, crop, about)
        if self._settings.frames:
            self._keep_crop("frame", frame, (0, 0, *_size(frame)), about)
        if pending is not None:
            self._pending[defect.track_id] = pending
            if len(self._pending) > MAX_OPEN_DEFECTS:
                self._pending.popitem(last=False)
        return pending

    def _is_due(self, kind: Kind, camera: str, now_ns: int) -> bool:
        """At random times, `per_hour` on average: no rhythm of the production line can hide from the samples."""
        per_hour = self._settings.audit_per_hour if kind == "audit" else self._settings.unsure_per_hour
        due_ns = self._due_ns.get((camera, kind))
        if per_hour <= 0 or (due_ns is not None and now_ns < due_ns):
            return False
        self._due_ns[camera, kind] = now_ns + int(self._rng.expovariate(per_hour / 3600) * NS_PER_S)
        return due_ns is not None

    def _keep_crop(self, kind: Kind, frame: Frame, crop: Box, about: dict[str, Any]) -> PendingEvidence | None:
        x, y, w, h = crop
        pixels: Gray = frame.pixels[y : y + h, x : x + w].copy()  # the ring reuses the frame's memory after this turn
        return self._keep(Piece(kind, frame.camera, pixels, {**about, **self._facts(frame, crop)}))

    def _facts(self, frame: Frame, crop: Box) -> dict[str, Any]:
        time = stamp(self._clock.wall_ns())
        return {"time": time, "frame": frame.number, "source": frame.label[:200], "crop_px": crop}


def _size(frame: Frame) -> tuple[int, int]:
    """Width and height, px."""
    return frame.pixels.shape[1], frame.pixels.shape[0]


def _with_margin(box: Box, margin: int, size: tuple[int, int]) -> Box:
    """The box with a margin on each side, clipped to a frame of this width and height.  All in px."""
    x, y = max(0, box[0] - margin), max(0, box[1] - margin)
    right, bottom = min(size[0], box[0] + box[2] + margin), min(size[1], box[1] + box[3] + margin)
    return x, y, max(1, right - x), max(1, bottom - y)


def _peak(defect: event.Defect, detections: Detections) -> Box | None:
    """The tile of the defect with the highest confidence in this frame."""
    own = [r for r in detections.regions if r.peak_px is not None and overlap_px(r.box_px, defect.box_px)]
    if not own:
        return None
    return max(own, key=lambda r: (r.class_name == defect.class_name, r.confidence)).peak_px


def _label(tile: Box, detections: Detections) -> str:
    """What inspection decided about a tile: `unsure`, `good`, or the class of the region that covers half of it."""
    if tile in detections.unsure_boxes:
        return "unsure"
    over = (r.class_name for r in detections.regions if overlap_px(tile, r.box_px) >= tile[2] * tile[3] // 2)
    return next(over, "good")
