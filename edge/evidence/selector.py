"""Which pictures are kept: of each defect, of a bad picture, and now and then a tile for people to label.

A defect enters the picture piece by piece, and its first frame must serve as evidence at once. While it is open the
selector holds a copy of the frame that shows most of it, and keeps that for the closing event.

The inspection loop calls the selector while it holds the frame: the selector copies the pixels and returns at once.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from edge import config, event
from edge.evidence.archive import Kind
from edge.evidence.writer import PendingEvidence, Piece
from edge.frame import Box, Frame, Gray
from edge.host.clock import NS_PER_S, Clock, stamp
from edge.host.token_bucket import TokenBucket
from edge.vision.boxes import overlap_px
from edge.vision.decision import Detections
from edge.vision.inspector import Verdict

MAX_OPEN_DEFECTS: Final = 1024
"""Open defects whose picture the closing event repeats."""
MORE: Final = 1.1
"""A frame shows more of a defect if the visible part is larger by this factor: each time its crop is copied."""
MAX_HELD_BYTES: Final = 32 << 20
"""Size of the copies held for open defects. Above it the picture of the opening frame stays."""

Place = tuple[str | None, float | None]
"""The coil, and the meters from its start; None where they are not known."""
Picture = Callable[[float], event.Evidence | None]
"""Waits at most that long, s; returns the reference of a picture that is on disk by then."""


def nowhere() -> Place:
    """The place on the strip is not known."""
    return None, None


@dataclass(slots=True)
class _OpenDefect:
    """The pictures of one open defect.  shown_px: area of it that the best of them shows."""

    opening: PendingEvidence | None
    shown_px: int
    better: Piece | None = None
    """Of a later frame, in memory until the defect closes."""

    @property
    def held_bytes(self) -> int:
        return 0 if self.better is None else self.better.pixels.nbytes


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
        self._open: OrderedDict[str, _OpenDefect] = OrderedDict()
        """By track, until the track closes."""
        self._held_bytes = 0
        self._due_ns: dict[tuple[str, Kind], int] = {}
        self._disputes: dict[str, TokenBucket] = {}
        """By camera."""

    def select(
        self, fact: event.Event, camera: config.Camera, frame: Frame | None, detections: Detections
    ) -> Picture | None:
        """Select the picture of an event; None for an event without one.

        detections: of the frame.  Neither they nor the frame are used after the return.
        """
        if fact.type == "defect.closed" and fact.defect is not None:
            return self._close(fact, fact.defect)
        if frame is None:
            return None
        if fact.type == "defect.opened" and fact.defect is not None:
            return self._keep_defect(fact, fact.defect, camera, frame, detections)
        if fact.type == "image.bad":
            facts = {"event_id": fact.event_id, **self._facts(frame, (0, 0, *_size(frame))), **(fact.detail or {})}
            return self._keep(Piece("image", camera.name, frame.pixels.copy(), facts))
        return None

    def follow(
        self, camera: config.Camera, frame: Frame, defects: Sequence[event.Defect], detections: Detections
    ) -> None:
        """Hold a copy of the frame for each open defect of which it shows more than the frames before.

        defects: those that the frame shows, with their boxes in it.  Nothing is used after the return.
        """
        for defect in defects:
            known = self._open.get(defect.track_id)
            shown_px = _shown_px(defect)
            if known is None or shown_px < MORE * known.shown_px:
                continue
            crop = _with_margin(defect.box_px, camera.tile_px // 4, _size(frame))
            held_bytes = self._held_bytes - known.held_bytes + crop[2] * crop[3]
            if held_bytes > MAX_HELD_BYTES:
                continue
            known.better = self._piece("defect", frame, crop, _about(defect, crop, detections))
            known.shown_px, self._held_bytes = shown_px, held_bytes

    def sample(
        self,
        frame: Frame,
        verdict: Verdict,
        boxes: Callable[[], Sequence[Box]],
        place: Callable[[], Place] = nowhere,
    ) -> None:
        """Now and then keep a tile for people to label: an unsure one, or any.

        boxes: gives the tiles of a frame.  place: gives the coil, and the meters on it.
        """
        now_ns = self._clock.monotonic_ns()
        detections = verdict.detections
        if detections.unsure_boxes and self._is_due("unsure", frame.camera, now_ns):
            tile = self._rng.choice(detections.unsure_boxes)
            self._keep_crop("unsure", frame, tile, {"label": "unsure", **_origin(verdict, tile, place())})
        if not verdict.skipped and self._is_due("audit", frame.camera, now_ns):
            tile = self._rng.choice(boxes())
            self._keep_crop(
                "audit", frame, tile, {"label": _label(tile, detections), **_origin(verdict, tile, place())}
            )

    def dispute(
        self,
        frame: Frame,
        ours: Verdict,
        theirs: Verdict,
        shadow: Mapping[str, str],
        place: Callable[[], Place] = nowhere,
    ) -> None:
        """Keep the tile about which the shadow model disagrees most, some of them an hour.

        ours: the verdict that counts.  theirs: that of the shadow model.  shadow: its name and version.
        """
        tile = _disputed(ours, theirs)
        if tile is None or not self._may_keep_dispute(frame.camera):
            return
        other = {} if theirs.tile_scores is None else theirs.tile_scores.of(tile)
        said = {
            "name": shadow.get("name"),
            "version": shadow.get("version"),
            "label": _label(tile, theirs.detections),
            **{name: fact for name, fact in other.items() if name in ("scores", "anomaly")},
        }
        about = {"label": _label(tile, ours.detections), **_origin(ours, tile, place()), "shadow": said}
        self._keep_crop("shadow", frame, tile, about)

    def _may_keep_dispute(self, camera: str) -> bool:
        per_hour = self._settings.shadow_per_hour
        if per_hour <= 0:
            return False
        now_ns = self._clock.monotonic_ns()
        bucket = self._disputes.get(camera)
        if bucket is None:
            bucket = self._disputes[camera] = TokenBucket(per_hour / 3600, max(1, int(per_hour)), now_ns)
        return bucket.take(now_ns)

    def _keep_defect(
        self, fact: event.Event, defect: event.Defect, camera: config.Camera, frame: Frame, detections: Detections
    ) -> PendingEvidence | None:
        crop, whole = _with_margin(defect.box_px, camera.tile_px // 4, _size(frame)), (0, 0, *_size(frame))
        name = {"event_id": fact.event_id}
        pending = self._keep_crop("defect", frame, crop, name | _about(defect, crop, detections))
        if self._settings.frames:
            self._keep_crop("frame", frame, whole, name | _about(defect, whole, detections))
        self._open[defect.track_id] = _OpenDefect(pending, _shown_px(defect))
        if len(self._open) > MAX_OPEN_DEFECTS:
            self._held_bytes -= self._open.popitem(last=False)[1].held_bytes
        return pending

    def _close(self, fact: event.Event, defect: event.Defect) -> Picture | None:
        """The picture of the frame that showed most of the defect; that of its first frame until it is written."""
        known = self._open.pop(defect.track_id, None)
        if known is None:
            return None
        self._held_bytes -= known.held_bytes
        if known.better is None:
            return known.opening
        final = {"label": defect.class_name, "confidence": round(defect.confidence, 4)}
        better = self._keep(replace(known.better, facts={"event_id": fact.event_id, **known.better.facts, **final}))
        return _first_kept(better, known.opening)

    def _is_due(self, kind: Kind, camera: str, now_ns: int) -> bool:
        """At random times, `per_hour` on average: no rhythm of the production line can hide from the samples."""
        per_hour = self._settings.audit_per_hour if kind == "audit" else self._settings.unsure_per_hour
        due_ns = self._due_ns.get((camera, kind))
        if per_hour <= 0 or (due_ns is not None and now_ns < due_ns):
            return False
        self._due_ns[camera, kind] = now_ns + int(self._rng.expovariate(per_hour / 3600) * NS_PER_S)
        return due_ns is not None

    def _keep_crop(self, kind: Kind, frame: Frame, crop: Box, about: dict[str, Any]) -> PendingEvidence | None:
        return self._keep(self._piece(kind, frame, crop, about))

    def _piece(self, kind: Kind, frame: Frame, crop: Box, about: dict[str, Any]) -> Piece:
        x, y, w, h = crop
        pixels: Gray = frame.pixels[y : y + h, x : x + w].copy()  # the ring reuses the frame's memory after this turn
        return Piece(kind, frame.camera, pixels, {**about, **self._facts(frame, crop)})

    def _facts(self, frame: Frame, crop: Box) -> dict[str, Any]:
        time = stamp(self._clock.wall_ns())
        label = frame.label[:200]
        return {"time": time, "frame": frame.number, "source": label, "crop_px": crop, "frame_px": _size(frame)}


def _about(defect: event.Defect, crop: Box, detections: Detections) -> dict[str, Any]:
    """What a picture shows of a defect.  box_in_picture: x y w h, as shares of the width and height of the picture.

    Nothing is drawn into the picture: people label it, and networks learn from it.
    """
    x, y, w, h = defect.extent_px or defect.box_px
    return {
        **_where((defect.coil, defect.position_m)),
        "track_id": defect.track_id,
        "label": defect.class_name,
        "confidence": round(defect.confidence, 4),
        "box_px": defect.box_px,
        "extent_px": defect.extent_px,
        "peak_px": _peak(defect, detections),
        **({"candidates": [list(one) for one in defect.candidates]} if defect.candidates else {}),
        "box_in_picture": [
            round((x - crop[0]) / crop[2], 4),
            round((y - crop[1]) / crop[3], 4),
            round(w / crop[2], 4),
            round(h / crop[3], 4),
        ],
    }


def _origin(verdict: Verdict, tile: Box, place: Place) -> dict[str, Any]:
    """What the model found in a tile, and where on the strip it was."""
    return {**({} if verdict.tile_scores is None else verdict.tile_scores.of(tile)), **_where(place)}


def _where(place: Place) -> dict[str, Any]:
    coil, position_m = place
    known = {"coil": coil, "position_m": None if position_m is None else round(position_m, 3)}
    return {name: value for name, value in known.items() if value is not None}


def _shown_px(defect: event.Defect) -> int:
    """Area of the part of a defect that its frame shows."""
    box = defect.extent_px or defect.box_px
    return box[2] * box[3]


def _first_kept(*pictures: PendingEvidence | None) -> Picture | None:
    """The first of these pictures that is on disk in time; only the first one is waited for."""
    found = [picture for picture in pictures if picture is not None]
    if len(found) < 2:
        return found[0] if found else None
    first, second = found
    return lambda timeout_s: first(timeout_s) or second(0.0)


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


def _disputed(ours: Verdict, theirs: Verdict) -> Box | None:
    """The strongest tile of a class that only one of the verdicts has; without one, a tile that only one is sure of."""
    pairs = ((theirs.detections, ours.detections), (ours.detections, theirs.detections))
    for one, other in pairs:
        known = {region.class_name for region in other.regions}
        for region in one.regions:
            if region.class_name not in known:
                return region.peak_px or region.box_px
    for one, other in pairs:
        for box in one.unsure_boxes:
            if box not in other.unsure_boxes:
                return box
    return None


def _label(tile: Box, detections: Detections) -> str:
    """What inspection decided about a tile: `unsure`, `good`, or the class of the region that covers half of it."""
    if tile in detections.unsure_boxes:
        return "unsure"
    over = (r.class_name for r in detections.regions if overlap_px(tile, r.box_px) >= tile[2] * tile[3] // 2)
    return next(over, "good")
