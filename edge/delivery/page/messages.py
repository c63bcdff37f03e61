"""The messages of the feed, `state_dir/web.sock`.  Times are RFC 3339 in UTC, boxes are x, y, width, height in px.

From the page process to the daemon:

    page    {pid, link, problem, viewers}
            Its sign of life, at least once a second.  link: the address for a browser, or null.  problem: why it does
            not serve, one line, or null.  viewers: open browsers.
    want    {cameras: {NAME: {max_fps, longest_px}}, raw: {NAME: n}}
            The frames that it wants.  Replaces its last `want`, except for `raw`, which asks for n unscaled
            frames more.  A want ends after WANT_S without a renewal, and with the connection.

From the daemon to the page process:

    hello   {node, version, epoch, last_seq, cameras: [NAME]}
            The first message.  epoch: of this feed; frame numbers and seq of another epoch cannot be compared.
    state   {state: {...}}
            The state object of the page, `defectd.api.state/1` (`page.state`): on change, and each second.
    frame   {camera, number, time, age_ms, size_px, jpeg_px, state, reason, regions, tiles, roi_px, position_m, coil}
            body: JPEG.  age_ms: from the grab to this message.  state: ok, defect, unsure, bad_image, late, or dropped
            (the camera is paused); the last three have no regions.  size_px: of the frame, in which all boxes lie.
            regions: [{track_id, class, confidence, anomaly, severity, box_px, extent_px, length_mm, candidates}], of
            this very frame.  track_id: null until the track is confirmed.  candidates: of an `unknown` one, what it
            looks like, [{class, confidence}]; else null.  tiles: {inspected, skipped, outside}.
            roi_px: a rectangle, a list of corners, or null for the whole frame.
    raw     {camera, number, time, size_px}
            body: the frame as it came, 8-bit gray, row by row.
    event   {seq, payload}
            payload: the event as published.  All events from the connection on, without a gap; on a gap in seq, and
            for older ones, read the outbox.
    log     {records: [{number, time, level, logger, thread, message}]}
            Log records since the feed has started, without credentials: those it still has when a page process
            connects, then each new one, the oldest first. To page processes only. number counts them: a gap means
            that some were dropped.
    bye     {reason}
            The daemon stops or replaces the feed: connect again.

Imports the standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from edge.delivery.page_life import PageSign

WANT_S: Final = 3.0
"""How long a `want` holds without a renewal."""
SIGN_EVERY_S: Final = 1.0
"""Between two `page` messages."""
MAX_FPS: Final = 10.0
"""Per camera, whatever is wanted."""
LONGEST_PX: Final = (64, 4096)
MAX_CAMERAS: Final = 64
MAX_RAW: Final = 64
"""Unscaled frames of one camera in one `want`."""


@dataclass(frozen=True, slots=True)
class CameraWant:
    """JPEG frames of one camera."""

    max_fps: float
    longest_px: int


@dataclass(frozen=True, slots=True)
class Want:
    """What one client wants.  raw: unscaled frames, by camera."""

    cameras: Mapping[str, CameraWant] = field(default_factory=dict)
    raw: Mapping[str, int] = field(default_factory=dict)

    def header(self) -> dict[str, Any]:
        """The message of this want."""
        cameras = {
            name: {"max_fps": want.max_fps, "longest_px": want.longest_px} for name, want in self.cameras.items()
        }
        return {"kind": "want", "cameras": cameras, "raw": dict(self.raw)}


def want_of(header: Mapping[str, Any]) -> Want:
    """The want of a message, with its numbers within the limits.  Raises ValueError."""
    cameras, raw = header.get("cameras") or {}, header.get("raw") or {}
    if not isinstance(cameras, dict) or not isinstance(raw, dict) or len(cameras) + len(raw) > 2 * MAX_CAMERAS:
        raise ValueError("cameras and raw are objects with a few cameras")
    return Want(
        {name: _camera_want(fields) for name, fields in cameras.items()},
        {name: int(_within(n, 0, MAX_RAW)) for name, n in raw.items()},
    )


def sign_of(header: Mapping[str, Any]) -> PageSign:
    """The sign of a message.  Raises ValueError."""
    pid, link, problem, viewers = (header.get(key) for key in ("pid", "link", "problem", "viewers"))
    if type(pid) is not int or pid <= 0:
        raise ValueError("pid is a process id")
    if not all(text is None or (isinstance(text, str) and len(text) <= 1000) for text in (link, problem)):
        raise ValueError("link and problem are short texts or null")
    return PageSign(pid, link, problem, int(_within(0 if viewers is None else viewers, 0, 1_000_000)))


def _camera_want(fields: Any) -> CameraWant:
    if not isinstance(fields, dict):
        raise ValueError("a camera's want is an object")  # noqa: TRY004 (one kind of error for the reader)
    longest_px = int(_within(fields.get("longest_px", 1600), *LONGEST_PX))
    return CameraWant(_within(fields.get("max_fps", 5.0), 0.1, MAX_FPS), longest_px)


def _within(value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ValueError("a number is expected")
    return min(max(value, low), high)
