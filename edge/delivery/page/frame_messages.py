"""The frames of one turn as messages: each picture is encoded once, whoever wants it."""

from __future__ import annotations

from typing import Any

from edge.delivery.frame_tap import ShownFrame, ShownRegion
from edge.delivery.page.framing import encoded
from edge.delivery.page.pictures import jpeg
from edge.host.clock import NS_PER_MS, Clock, stamp


class FrameMessages:
    """Lives for one turn of the feed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._made: dict[tuple[str, int], bytes] = {}

    def scaled(self, frame: ShownFrame, longest_px: int) -> bytes:
        """The message `frame`.  Raises ImageError."""
        key = frame.camera, min(longest_px, max(frame.pixels.shape))
        message = self._made.get(key)
        if message is None:
            picture, size_px = jpeg(frame.pixels, longest_px)
            age_ms = (self._clock.monotonic_ns() - frame.grabbed_ns) / NS_PER_MS
            header = {
                "kind": "frame",
                **self._about(frame),
                "age_ms": round(age_ms, 1),
                "jpeg_px": size_px,
                "state": frame.state,
                "regions": [_region(region) for region in frame.regions],
                "tiles": {
                    "inspected": frame.tiles.inspected,
                    "skipped": frame.tiles.skipped,
                    "outside": frame.tiles.outside,
                },
                "roi_px": frame.roi_px,
                "position_m": frame.position_m,
                "coil": frame.coil,
            }
            message = self._made[key] = encoded(header, picture)
        return message

    def raw(self, frame: ShownFrame) -> bytes:
        """The message `raw`."""
        return encoded({"kind": "raw", **self._about(frame)}, frame.pixels.tobytes())

    def _about(self, frame: ShownFrame) -> dict[str, Any]:
        grabbed_ns = self._clock.wall_ns() - (self._clock.monotonic_ns() - frame.grabbed_ns)
        return {
            "camera": frame.camera,
            "number": frame.number,
            "time": stamp(grabbed_ns),
            "size_px": [frame.pixels.shape[1], frame.pixels.shape[0]],
        }


def _region(region: ShownRegion) -> dict[str, Any]:
    return {
        "track_id": region.track_id,
        "class": region.class_name,
        "confidence": region.confidence,
        "anomaly": region.anomaly,
        "severity": region.severity,
        "box_px": region.box_px,
        "extent_px": region.extent_px,
        "length_mm": region.length_mm,
        "candidates": [{"class": name, "confidence": round(value, 4)} for name, value in region.candidates] or None,
    }
