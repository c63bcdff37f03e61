"""The region of the strip: its edges against the dark background.

From the border of the frame inwards, the picture is dark and without texture until the strip starts. Each band of a
frame is searched alone: a slanting edge becomes a line, and a scratch near it is outvoted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from edge import config
from edge.config.camera_calibration import Side, Track
from edge.errors import CalibrationError, ImageError, NeedlessCalibration
from edge.frame import Float64s, Gray
from edge.vision import tiles
from edge.vision.drawing import label
from edge.vision.strip_edges import AGREE, BANDS, BORDER_PX, DARK, FLAT, LOOK_BACK_PX, REACH_PX, STEP, STRAIGHT_PX

SIDES: Final[tuple[Side, ...]] = ("left", "right", "top", "bottom")
MIN_FRAMES: Final = 3
"""The median of fewer frames would not reject one that shows something else."""
SLANT_PX: Final = 3.0
"""Across the frame: an edge with more slant makes the region a polygon."""
MAX_SLANT_PX: Final = 16.0
"""Of an edge that is followed: the region is upright then, and the strip within the slant is not inspected."""

SOFT_PX: Final = 8
SOFT: Final = 0.4
"""Minimum share of an edge's rise within SOFT_PX. Eight edges of real line-scan frames have 0.49 to 0.78; blurred with
a sigma of 8 px, which moves the measured place by 10 px, they have 0.26 to 0.36."""
BESIDE_PX: Final = (24, 40)
"""Distance from an edge at which background and strip have their own gray levels."""

SIZES: Final = (0.5, 0.75, 1.0, 1.5, 2.0)
"""Candidates for the size of a tile, as shares of the present one."""

Point = tuple[int, int]


class WanderError(CalibrationError):
    """The edges wander too far for a fixed region; they can be followed."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A line from one border of the frame to the opposite one.

    start_px, end_px: distance from the left (of a side edge) or from the top, at the start and end of the line.
    wander_px: largest distance of a frame's edge from this one.  frames: number of frames that showed it.
    """

    side: Side
    start_px: float
    end_px: float
    wander_px: float
    frames: int

    def as_json(self) -> dict[str, Any]:
        return {
            "start_px": round(self.start_px, 1),
            "end_px": round(self.end_px, 1),
            "wander_px": round(self.wander_px, 1),
            "frames": self.frames,
        }


@dataclass(frozen=True, slots=True)
class Strip:
    """The strip in the frames.  roi: x y w h, or a polygon where an edge slants.  track: how to follow its edges."""

    edges: tuple[Edge, ...]
    roi: tuple[int, int, int, int] | tuple[Point, ...]
    track: Track | None = None


def find(
    frames: Sequence[Gray],
    *,
    margin_px: int,
    max_wander_px: float,
    track: bool = False,
    on_frame: Callable[[], None] = lambda: None,
) -> Strip:
    """Find the strip in frames of one size from one camera that does not move.

    margin_px: distance from each edge, in addition to the wander of the strip.  track: the strip may wander; the daemon
    is to follow its edges.  on_frame: called for each frame on each side.
    Raises NeedlessCalibration when no side shows an edge, WanderError when the strip wanders too far for a fixed
    region, CalibrationError when an edge is too soft to locate, or when no place is inside the strip in all frames.
    """
    height, width = frames[0].shape
    edges = []
    seen_px: dict[Side, tuple[float, float]] = {}
    for side in SIDES:
        lines, rises = list[tuple[float, float]](), list[float]()
        for frame in frames:
            if (line := line_of(frame, side)) is not None:
                lines.append(line)
                rises.append(_rise(frame, side, line))
            on_frame()
        if len(lines) < max(1, AGREE * len(frames)):
            continue
        if np.median(rises) < SOFT:
            raise CalibrationError(
                f"the {side} edge is too soft to locate: {np.median(rises):.0%} of its rise are within {SOFT_PX} "
                f"px, at least {SOFT:.0%} must be. Focus the lens, or give the region with --shape"
            )
        starts, ends = np.array(lines).T
        start, end = float(np.median(starts)), float(np.median(ends))
        wander = float(max(np.abs(starts - start).max(), np.abs(ends - end).max()))
        if track and abs(end - start) > MAX_SLANT_PX:
            raise CalibrationError(
                f"the {side} edge slants by {abs(end - start):.0f} px, more than {MAX_SLANT_PX:g}: it cannot be "
                "followed. Level the camera, or leave out --track"
            )
        if wander > max_wander_px and not track:
            raise WanderError(
                f"the {side} edge lies up to {wander:.0f} px from its median place, more than {max_wander_px:g}: "
                "the camera or the strip moves too much for a fixed region. Fix the camera, increase --wander-px, "
                "or follow the edges in each frame with --track"
            )
        edges.append(Edge(side, start, end, wander, len(lines)))
        seen_px[side] = (round(float(min(starts.min(), ends.min())), 1), round(float(max(starts.max(), ends.max())), 1))
    if not edges:
        raise NeedlessCalibration(
            "no side of the frames shows a dark background beside the strip. If the strip fills the frame, leave roi "
            "out; otherwise give it with --shape"
        )
    followed = Track(seen_px=seen_px, margin_px=margin_px) if track else None
    return Strip(tuple(edges), _region(edges, width, height, margin_px, upright=track), followed)


def line_of(frame: Gray, side: Side) -> tuple[float, float] | None:
    """The place of the edge in one frame, at its start and end, px; None where this side shows no edge."""
    turned = _inwards(frame, side)
    length, depth = turned.shape
    strip_level = float(np.percentile(turned[:: max(1, length // 64), :: max(1, depth // 512)], 90))
    bounds = np.linspace(0, length, min(BANDS, length) + 1).astype(int)
    found: list[tuple[float, float]] = []
    for top, bottom in pairwise(bounds):
        band = turned[top:bottom]
        at = _edge_of(np.median(band, axis=0), float(band[:, :BORDER_PX].std()), strip_level)
        if at is not None:
            found.append(((top + bottom) / 2, at))
    if len(found) < (len(bounds) - 1) * AGREE:
        return None
    points = np.array(found)
    slope, offset = _line(points)
    if (np.abs(points[:, 1] - slope * points[:, 0] - offset) <= STRAIGHT_PX).mean() < AGREE:
        return None
    ends = (offset, slope * length + offset)
    if side in ("right", "bottom"):
        ends = (depth - ends[0], depth - ends[1])
    return ends


def _inwards(frame: Gray, side: Side) -> Gray:
    """The frame turned so that rows start at the border of this side."""
    turned = frame if side in ("left", "right") else frame.T
    return turned[:, ::-1] if side in ("right", "bottom") else turned


def _rise(frame: Gray, side: Side, line: tuple[float, float]) -> float:
    """Share of an edge's rise within SOFT_PX, in the median band.  line: of `line_of`."""
    turned = _inwards(frame, side)
    length, depth = turned.shape
    start, end = line if side in ("left", "top") else (depth - line[0], depth - line[1])
    bounds = np.linspace(0, length, min(BANDS, length) + 1).astype(int)
    near, far = BESIDE_PX
    shares = []
    for top, bottom in pairwise(bounds):
        profile = np.median(turned[top:bottom], axis=0)
        at = int(np.clip(start + (end - start) * (top + bottom) / 2 / length, 1, depth - 1))
        before = float(np.median(profile[max(0, at - far) : max(1, at - near)]))
        behind = float(np.median(profile[min(at + near, depth - 1) : at + far]))
        around = profile[max(0, at - near) : at + near]
        steepest = float((around[SOFT_PX:] - around[:-SOFT_PX]).max()) if len(around) > SOFT_PX else behind - before
        shares.append(steepest / max(1.0, behind - before))
    return float(np.median(shares))


def _edge_of(profile: Float64s, scatter: float, strip_level: float) -> float | None:
    """Halfway up the step at the end of the background, px from the border.  profile: gray, from the border inwards."""
    if profile[:BORDER_PX].max() > DARK * strip_level or scatter > FLAT:
        return None
    step = max(6.0, STEP * strip_level)
    for at in range(BORDER_PX, len(profile) - REACH_PX):
        level = float(np.median(profile[max(0, at - LOOK_BACK_PX) : at]))
        ahead = profile[at : at + 4]
        if ahead.min() < level + step:
            continue
        plateau = float(np.median(profile[at : at + REACH_PX // 2]))
        half = (level + plateau) / 2
        near = max(0, at - REACH_PX)
        above = near + int(np.argmax(profile[near : at + REACH_PX] >= half))
        below, over = profile[above - 1], profile[above]
        return above - 1 + float((half - below) / (over - below)) if over > below else float(above)
    return None


def _line(points: Float64s) -> tuple[float, float]:
    """Slope and offset of a robust line.  points: (N, 2).  Source: the medians of Theil and Sen."""
    along, across = points.T
    i, j = np.triu_indices(len(points), 1)
    slope = float(np.median((across[j] - across[i]) / (along[j] - along[i]))) if len(points) > 1 else 0.0
    return slope, float(np.median(across - slope * along))


def _region(edges: Sequence[Edge], width: int, height: int, margin_px: int, *, upright: bool) -> tuple[Any, ...]:
    """The region inside all edges in all frames.  upright: never a polygon."""
    lines = {"left": (0.0, 0.0), "right": (width, width), "top": (0.0, 0.0), "bottom": (height, height)}
    for edge in edges:
        inwards = 1 if edge.side in ("left", "top") else -1
        shift = inwards * (margin_px + edge.wander_px)
        lines[edge.side] = (edge.start_px + shift, edge.end_px + shift)
    (l0, l1), (r0, r1), (t0, t1), (b0, b1) = (lines[side] for side in SIDES)
    if min(r0 - l0, r1 - l1, b0 - t0, b1 - t1) < 1:
        raise CalibrationError("the edges leave no strip between them; look at the frames, or reduce --margin-px")
    if upright or all(abs(edge.end_px - edge.start_px) <= SLANT_PX for edge in edges):
        left, top = int(np.ceil(max(l0, l1))), int(np.ceil(max(t0, t1)))
        return left, top, int(min(r0, r1)) - left, int(min(b0, b1)) - top
    corners = ((l0, t0), (r0, t1), (r1, b1), (l1, b0))
    return tuple((min(width, max(0, round(x))), min(height, max(0, round(y)))) for x, y in corners)


@dataclass(frozen=True, slots=True)
class TileSize:
    """A size of tiles, and the tiles of a frame, x y w h; none where that size cannot be laid."""

    tile_px: int
    boxes: tuple[tuple[int, ...], ...]

    def as_json(self) -> dict[str, Any]:
        return {"tile_px": self.tile_px, "tiles": len(self.boxes) or None}


def tile_boxes(
    camera: config.Camera, frame: Gray, roi: Any, exclude: Sequence[Any], input_px: int
) -> list[tuple[int, ...]]:
    """The tiles of the region as the daemon lays them, x y w h.  input_px: side of the network's input.

    Raises CalibrationError when there are none, or a zone is outside the frame.
    """
    height, width = frame.shape
    for zone in exclude:
        left, top = outline(zone, frame).min(axis=0)
        if left >= width or top >= height or (isinstance(zone[0], int) and min(zone[2:]) < 1):
            raise CalibrationError(f"the zone {zone} leaves out nothing of a frame of {width}x{height} px")
    try:
        return _laid(camera, frame, roi, exclude, camera.tile_px, input_px)
    except ImageError as error:
        raise CalibrationError(f"{error}") from error


def tile_sizes(camera: config.Camera, frame: Gray, roi: Any, exclude: Sequence[Any], input_px: int) -> list[TileSize]:
    """Candidates for the size of a tile around the present one."""
    found = []
    for share in SIZES:
        side = min(config.TILE_PX[1], max(config.TILE_PX[0], round(camera.tile_px * share)))
        try:
            laid = _laid(camera, frame, roi, exclude, side, input_px)
        except ImageError:
            laid = []
        found.append(TileSize(side, tuple(laid)))
    return found


def _laid(
    camera: config.Camera, frame: Gray, roi: Any, exclude: Sequence[Any], tile_px: int, input_px: int
) -> list[tuple[int, ...]]:
    """Raises ImageError."""
    shape = (frame.shape[0], frame.shape[1])
    grid = tiles.lay(shape, tile_px=tile_px, input_px=input_px, overlap=camera.overlap, roi=roi, exclude=exclude)
    return [tuple(int(side) for side in box) for box in grid.boxes]


def overlay(frame: Gray, roi: Any, exclude: Sequence[Any], track: Track | None = None) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR: the region in green, excluded zones darkened and red, the seen places of edges in yellow."""
    canvas = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)
    inside = np.zeros(frame.shape, np.uint8)
    cv2.fillPoly(inside, [outline(roi, frame)], (255,))
    for zone in exclude:
        cv2.fillPoly(inside, [outline(zone, frame)], (0,))
    canvas[inside == 0] //= 2
    for zone in exclude:
        cv2.polylines(canvas, [outline(zone, frame)], True, (60, 60, 235), 2)
    cv2.polylines(canvas, [outline(roi, frame)], True, (80, 220, 80), 2)
    height, width = frame.shape
    for side, seen in track.seen_px.items() if track is not None else ():
        for at in map(round, seen):
            start, end = ((at, 0), (at, height)) if side in ("left", "right") else ((0, at), (width, at))
            cv2.line(canvas, start, end, (0, 200, 240), 1)
    legend = ["green: inspected"]
    legend += ["red: excluded"] if exclude else []
    legend += ["yellow: where its edges were"] if track is not None else []
    label(canvas, "; ".join(legend), (8, height - 10))
    return np.asarray(canvas, np.uint8)


def outline(region: Any, frame: Gray) -> npt.NDArray[np.int32]:
    """The corners of a rectangle x y w h, of a polygon, or of the whole frame for None.  (N, 2)."""
    if region is None:
        region = (0, 0, frame.shape[1], frame.shape[0])
    if isinstance(region[0], int):
        x, y, w, h = region
        region = ((x, y), (x + w - 1, y), (x + w - 1, y + h - 1), (x, y + h - 1))
    return np.array(region, np.int32)
