"""Pictures of an anomaly calibration, for people: the tail, the most anomalous tiles, and a map of the scores."""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edge.calibration.anomaly import Fit, ShownTile

Canvas = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
TEXT_SIZE: Final = 0.45
MAP_CAPTION: Final = "largest score of good surface over the threshold, by place"
CAPTION_PX: Final = 18
"""Height of a line of a caption."""
PLOT_PX: Final = (920, 560)
LEFT, TOP, RIGHT, BELOW = 90, 56, 30, 64
INK: Final = (60, 60, 60)
GRID: Final = (225, 225, 225)
MEASURED: Final = (150, 90, 20)
EXTRAPOLATED: Final = (40, 40, 220)
BAND: Final = (215, 215, 250)
ALLOWED: Final = (60, 140, 20)
CELL_PX: Final = 150
LINE_PX: Final = 36
ACROSS: Final = 6


def tail_plot(found: Fit) -> Canvas:
    """(560, 920, 3) uint8 BGR: how often good surface exceeds a score, counted and extrapolated, and the threshold."""
    width, height = PLOT_PX
    canvas = np.full((height, width, 3), 255, np.uint8)
    unit = found.allowed_rate / found.per_piece
    maxima = np.sort(found.maxima)
    threshold = found.promise.threshold
    low = float(np.quantile(maxima, 0.2))
    high = max(threshold, float(maxima[-1])) + 0.15 * (max(threshold, float(maxima[-1])) - low) + 1e-6
    top = unit
    bottom = min(found.allowed_rate, unit / len(maxima)) / 10

    def place(level: float, rate: float) -> tuple[int, int]:
        across = (level - low) / (high - low)
        down = math.log(top / max(rate, bottom)) / math.log(top / bottom)
        return LEFT + round(across * (width - LEFT - RIGHT)), TOP + round(min(1.0, down) * (height - TOP - BELOW))

    for decade in range(math.ceil(math.log10(bottom)), math.floor(math.log10(top)) + 1):
        _, y = place(low, 10.0**decade)
        cv2.line(canvas, (LEFT, y), (width - RIGHT, y), GRID, 1)
        _write(canvas, f"{10.0**decade:g}", (8, y + 5))
    for level in np.linspace(low, high, 7):
        x, _ = place(float(level), bottom)
        cv2.line(canvas, (x, TOP), (x, height - BELOW), GRID, 1)
        _write(canvas, f"{level:.2f}", (x - 16, height - BELOW + 22))
    if found.tail is not None:
        levels = np.linspace(found.tail.above, high, 80)
        each = [found.tail.beyond(float(level)) for level in levels]
        upper = [place(level, one.high * unit) for level, one in zip(levels, each, strict=True)]
        lower = [place(level, one.low * unit) for level, one in zip(levels, each, strict=True)]
        cv2.fillPoly(canvas, [np.array(upper + lower[::-1], np.int32)], BAND)
        middle = [place(level, one.mean * unit) for level, one in zip(levels, each, strict=True)]
        cv2.polylines(canvas, [np.array(middle, np.int32)], False, EXTRAPOLATED, 2, cv2.LINE_AA)
    step = max(1, len(maxima) // 600)
    shown = [*range(0, max(0, len(maxima) - 200), step), *range(max(0, len(maxima) - 200), len(maxima))]
    for i in shown:
        if maxima[i] >= low:
            cv2.circle(
                canvas, place(float(maxima[i]), (len(maxima) - i) / len(maxima) * unit), 2, MEASURED, -1, cv2.LINE_AA
            )
    x, y = place(threshold, found.allowed_rate)
    cv2.line(canvas, (LEFT, y), (width - RIGHT, y), ALLOWED, 1, cv2.LINE_AA)
    cv2.line(canvas, (x, TOP), (x, height - BELOW), ALLOWED, 2, cv2.LINE_AA)
    _write(canvas, f"allowed: {found.allowed_text}", (LEFT + 10, y - 6), ALLOWED)
    _write(canvas, f"threshold {threshold:.3f}", (max(LEFT, x - 150), TOP + 16), ALLOWED)
    length = "1 frame" if found.piece_frames == 1 else f"{found.piece_frames} frames"
    legend = f"points: {len(maxima)} pieces of {length}"
    legend += "" if found.tail is None else "; line and band: generalised Pareto tail and 90 %"
    _write(canvas, legend, (LEFT, 18))
    what = "share of good tiles" if found.unit == "of good tiles" else found.unit
    _write(canvas, f"{what} above a score", (8, 44))
    _write(canvas, "anomaly score (no unit): higher is more anomalous", (LEFT, height - 14))
    return canvas


def contact_sheet(tiles: tuple[ShownTile, ...]) -> Canvas:
    """(H, W, 3) uint8 BGR: tiles that were left out, framed in red, above the most anomalous used ones, in green."""
    groups = [
        ("left out: if these are good, give --keep-all", True),
        ("used: the most anomalous of good surface", False),
    ]
    rows: list[Canvas] = []
    for title, left_out in groups:
        shown = [one for one in tiles if one.left_out is left_out and one.picture is not None]
        rows.append(_title(f"{title} ({len(shown)} shown)"))
        for start in range(0, len(shown), ACROSS):
            cells = [_cell(one) for one in shown[start : start + ACROSS]]
            cells += [_blank()] * (ACROSS - len(cells))
            rows.append(np.hstack(cells))
    return np.vstack(rows)


def heat_map(found: Fit) -> Canvas:
    """(H + caption, W, 3) uint8 BGR: how close good surface came to the threshold, by place in the frame.

    An edge of the strip, a reflection or a stain on the glass shows as tiles that are hotter than the others.
    """
    picture, boxes = cv2.cvtColor(found.picture, cv2.COLOR_GRAY2BGR), found.boxes
    shares = np.nan_to_num(found.place_scores / np.float32(found.promise.threshold))
    colours = cv2.applyColorMap(np.clip(shares * 255, 0, 255).astype(np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0]
    tint = np.zeros(picture.shape, np.float32)
    covered = np.zeros(found.picture.shape, np.float32)
    for (x, y, w, h), colour in zip(boxes, colours, strict=True):
        tint[y : y + h, x : x + w] += colour
        covered[y : y + h, x : x + w] += 1
    mixed = 0.55 * picture + 0.45 * tint / np.maximum(covered, 1)[:, :, None]
    canvas = np.where(covered[:, :, None] > 0, mixed, picture).astype(np.uint8)
    for (x, y, w, h), share in zip(boxes, shares.tolist(), strict=True):
        text = f"{share:.2f}"
        at = (x + w // 2 - 18, y + h // 2 + 5)
        cv2.putText(canvas, text, at, FONT, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(canvas, text, at, FONT, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    caption = wrapped(MAP_CAPTION, canvas.shape[1] - 12)
    title = np.full((10 + CAPTION_PX * len(caption), canvas.shape[1], 3), 240, np.uint8)
    for row, line in enumerate(caption):
        _write(title, line, (6, 19 + CAPTION_PX * row))
    return np.vstack([title, canvas])


def wrapped(text: str, width: int) -> list[str]:
    """Lines of whole words, each at most `width` px wide if its first word is."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        (needed, _), _ = cv2.getTextSize(longer, FONT, TEXT_SIZE, 1)
        if lines and needed <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _cell(one: ShownTile) -> Canvas:
    assert one.picture is not None
    side = CELL_PX - 10
    cell = _blank()
    picture = cv2.resize(one.picture, (side, side), interpolation=cv2.INTER_CUBIC)
    cell[5 : 5 + side, 5 : 5 + side] = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    cv2.rectangle(cell, (3, 3), (side + 6, side + 6), EXTRAPOLATED if one.left_out else ALLOWED, 2)
    _write(cell, f"{one.score:.2f}  frame {one.frame}", (5, CELL_PX + 12))
    _write(cell, one.label.rsplit("/", 1)[-1][-22:], (5, CELL_PX + 28), size=0.35)
    return cell


def _blank() -> Canvas:
    return np.full((CELL_PX + LINE_PX, CELL_PX, 3), 255, np.uint8)


def _title(text: str) -> Canvas:
    row = np.full((LINE_PX, ACROSS * CELL_PX, 3), 240, np.uint8)
    _write(row, text, (8, 24), size=0.55)
    return row


def _write(canvas: Canvas, text: str, at: tuple[int, int], colour: Colour = INK, size: float = TEXT_SIZE) -> None:
    cv2.putText(canvas, text, at, FONT, size, colour, 1, cv2.LINE_AA)
