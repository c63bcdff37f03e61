"""Millimetres per pixel and the lens, from a printed ChArUco board on the strip.

The last frame shows the board in the plane of the strip and gives that plane. Further frames, with the board at other
angles, give the lens. A distortion is kept only if it reduces the reprojection error of the corners.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import CalibrationError
from edge.frame import Float64s, Gray
from edge.host import atomic_files
from edge.vision.drawing import label
from edge.vision.metrology import Ruler, undistorted

MARKER_SHARE: Final = 0.7
"""Side of a marker, as a share of a square's side."""
DICTIONARY: Final = cv2.aruco.DICT_5X5_250
OTHERS: Final = (
    cv2.aruco.DICT_4X4_1000,
    cv2.aruco.DICT_6X6_1000,
    cv2.aruco.DICT_7X7_1000,
    cv2.aruco.DICT_ARUCO_ORIGINAL,
    cv2.aruco.DICT_APRILTAG_36h11,
)
FOREIGN: Final = 4
"""This many markers of another dictionary are not detected by chance."""
MIN_CORNERS: Final = 12
LENS_VIEWS: Final = 5
"""Fewer views at different angles do not determine the lens."""
MAX_RMS_PX: Final = 0.3
BETTER: Final = 0.9
"""A lens is kept if the error with it is below this share of the error without."""
NOISE_PX: Final = 0.1
"""Error of well-detected corners."""
STRAIGHT: Final = 0.6
"""Without views for a lens, a distorted one must not reduce the error below this share."""
DPI: Final = 300
MARGIN_MM: Final = 10.0
MAX_MM: Final = 1500.0
"""Longest side of a printed board: at 300 dpi that is a picture of 300 megapixels."""
MM_PER_INCH: Final = 25.4


@dataclass(frozen=True, slots=True)
class Board:
    """A chessboard with markers in its white squares.  columns, rows: numbers of squares."""

    columns: int
    rows: int
    square_mm: float

    @property
    def charuco(self) -> cv2.aruco.CharucoBoard:
        dictionary = cv2.aruco.getPredefinedDictionary(DICTIONARY)
        return cv2.aruco.CharucoBoard(
            (self.columns, self.rows), self.square_mm, self.square_mm * MARKER_SHARE, dictionary
        )

    def picture(self, dpi: float = DPI, margin_mm: float = MARGIN_MM) -> Gray:
        """The board as it is printed, with a white margin that states its size."""
        px_per_mm = dpi / MM_PER_INCH
        margin = round(margin_mm * px_per_mm)
        size = (round(self.columns * self.square_mm * px_per_mm), round(self.rows * self.square_mm * px_per_mm))
        sheet = np.full((size[1] + 2 * margin, size[0] + 2 * margin), 255, np.uint8)
        sheet[margin : margin + size[1], margin : margin + size[0]] = self.charuco.generateImage(size)
        note = f"{self.columns}x{self.rows} squares of {self.square_mm:g} mm: measure one after printing"
        scale = size[0] / 1100
        cv2.putText(
            sheet, note, (margin, round(margin * 0.6)), cv2.FONT_HERSHEY_SIMPLEX, scale, 0, max(1, margin // 60)
        )
        return sheet


@dataclass(frozen=True, slots=True)
class Measured:
    """rms_px: error of the corners in the frame that gives the plane.  views: frames that showed the board."""

    ruler: Ruler
    rms_px: float
    views: int
    corners: int


def measure(frames: Sequence[Gray], board: Board, on_frame: Callable[[], None] = lambda: None) -> Measured:
    """Plane and lens from frames that show the board.  Raises CalibrationError with the reason why they do not do."""
    found = []
    for frame in frames:
        found.append(_corners(frame, board))
        on_frame()
    views = [view for view in found if view is not None]
    if found[-1] is None or not views:
        raise CalibrationError(_why_not(frames[-1], board))
    height, width = frames[0].shape
    lens = _lens(_different(views), (width, height))
    px, mm = views[-1]
    plane, rms = _plane(px, mm, lens)
    if lens is not None:
        plain, plain_rms = _plane(px, mm, None)
        if rms > BETTER * plain_rms:
            lens, plane, rms = None, plain, plain_rms
    if rms > MAX_RMS_PX:
        raise CalibrationError(
            f"the corners lie {rms:.2f} px from where a flat board would have them, {MAX_RMS_PX:g} is allowed: "
            "the board is bent, blurred or not the one that was named, or the lens needs more views "
            f"({LENS_VIEWS} at different angles)"
        )
    if lens is None and rms > NOISE_PX and _distorted_rms(px, mm, (width, height)) < STRAIGHT * rms:
        raise CalibrationError(
            "the lens distorts, and one view does not determine how: show the board in "
            f"{LENS_VIEWS} frames at different angles, then flat on the strip"
        )
    plane = _turned(plane, (width, height), lens)
    ruler = Ruler(0.0, lens, plane)
    centre = (width / 2, height / 2)
    ruler = Ruler(_mm_per_px(ruler, centre), lens, plane)
    return Measured(ruler, rms, len(views), len(px))


def known_length(
    length_mm: float, one: tuple[float, float], other: tuple[float, float], size_px: tuple[int, int] | None = None
) -> Ruler:
    """The scale from one length between two points of a frame.  size_px: width and height, if known.

    Raises CalibrationError when the points are too close, or not in the frame.
    """
    if size_px is not None and not all(0 <= x <= size_px[0] and 0 <= y <= size_px[1] for x, y in (one, other)):
        raise CalibrationError(
            f"the points are {one} and {other}, the frame has {size_px[0]}x{size_px[1]} px: give points in it"
        )
    length_px = float(np.hypot(other[0] - one[0], other[1] - one[1]))
    if length_px < 10:
        raise CalibrationError(f"the two points are {length_px:.1f} px apart: give points far from each other")
    return Ruler(length_mm / length_px)


def _corners(frame: Gray, board: Board) -> tuple[Float64s, Float64s] | None:
    """Inner corners of the board: (N, 2) px and (N, 2) mm; None where too few are detected."""
    corners, ids, _, _ = cv2.aruco.CharucoDetector(board.charuco).detectBoard(frame)
    if ids is None or len(ids) < MIN_CORNERS:
        return None
    mm = np.asarray(board.charuco.getChessboardCorners(), np.float64)[np.ravel(ids), :2]
    return np.asarray(corners, np.float64).reshape(-1, 2), mm


def _why_not(frame: Gray, board: Board) -> str:
    corners, ids, _ = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(DICTIONARY)).detectMarkers(frame)
    wanted = board.columns * board.rows // 2
    fault = f"the last frame shows no board of {board.columns}x{board.rows} squares"
    if ids is None or not len(ids):
        if any(len(_ids(frame, other)) >= FOREIGN for other in OTHERS):
            return f"{fault}, but markers of another kind: print this one with --print"
        return f"{fault}: no marker is detected. Is the board in the picture, lit and sharp?"
    if int(np.max(ids)) >= wanted:
        return f"{fault}: marker {int(np.max(ids))} is not on it. Name the board with --squares"
    if len(ids) >= MIN_CORNERS and int(np.max(ids)) + 1 <= len(ids) + 1 < wanted:
        return f"{fault}: markers 0 to {int(np.max(ids))} are detected, it has {wanted}. Name the board with --squares"
    side_px = float(np.median([cv2.arcLength(corner, True) / 4 for corner in corners]))
    seen = f"{len(ids)} of {wanted} markers are detected, {side_px:.0f} px wide"
    return f"{fault}: {seen}. Show more of the board, larger and sharper"


def _ids(frame: Gray, dictionary: int) -> list[int]:
    _, ids, _ = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(dictionary)).detectMarkers(frame)
    return [] if ids is None else [int(one) for one in np.ravel(ids)]


def _different(views: Sequence[tuple[Float64s, Float64s]]) -> list[tuple[Float64s, Float64s]]:
    """The views that differ from each other by more than noise."""
    kept: list[tuple[Float64s, Float64s]] = []
    shapes: list[Float64s] = []
    for px, mm in views:
        shape, _ = cv2.findHomography(mm, px)
        sheet = mm.max(axis=0)
        ends = cv2.perspectiveTransform(np.array([[[0, 0], [sheet[0], 0], sheet, [0, sheet[1]]]], np.float64), shape)[0]
        if all(np.abs(ends - other).max() > 5 for other in shapes):
            kept.append((px, mm))
            shapes.append(np.asarray(ends, np.float64))
    return kept


def _lens(views: Sequence[tuple[Float64s, Float64s]], size: tuple[int, int]) -> Float64s | None:
    """fx, fy, cx, cy and five distortion coefficients; None when the views are too few or too similar."""
    if len(views) < LENS_VIEWS:
        return None
    boards = [np.hstack([mm, np.zeros((len(mm), 1))]).astype(np.float32) for _, mm in views]
    pictures = [px.astype(np.float32).reshape(-1, 1, 2) for px, _ in views]
    guess = np.eye(3)
    _, k, distortion, _, _ = cv2.calibrateCamera(boards, pictures, size, guess, np.zeros(5), flags=cv2.CALIB_FIX_K3)
    if not np.isfinite(k).all() or not np.isfinite(distortion).all():
        return None
    return np.array([k[0, 0], k[1, 1], k[0, 2], k[1, 2], *np.ravel(distortion)[:5]], np.float64)


def _plane(px: Float64s, mm: Float64s, lens: Float64s | None) -> tuple[Float64s, float]:
    """Homography (3, 3) from undistorted px to mm, and the error of the corners, px."""
    points = px if lens is None else undistorted(px, lens)
    to_px, _ = cv2.findHomography(mm, points)
    again = cv2.perspectiveTransform(mm.reshape(-1, 1, 2), to_px).reshape(-1, 2)
    rms = float(np.sqrt(((again - points) ** 2).sum(axis=1).mean()))
    return np.asarray(np.linalg.inv(to_px), np.float64), rms


def _distorted_rms(px: Float64s, mm: Float64s, size: tuple[int, int]) -> float:
    """The smallest error with a simple lens of any distortion."""
    width, height = size
    focal_px = float(max(size))
    lenses = (
        np.array([focal_px, focal_px, width / 2, height / 2, k1, 0, 0, 0, 0]) for k1 in np.linspace(-0.6, 0.6, 49)
    )
    return min(_plane(px, mm, lens)[1] for lens in lenses)


def _turned(plane: Float64s, size: tuple[int, int], lens: Float64s | None) -> Float64s:
    """The same plane with its origin at the upper left corner of the frame and x along the rows."""
    ruler = Ruler(0.0, lens, plane)
    width, height = size
    (left, right), corner = ruler.points_mm([(width / 2 - 1, height / 2), (width / 2 + 1, height / 2)]), np.zeros(2)
    along = (right - left) / np.linalg.norm(right - left)
    turn = np.array([[along[0], along[1], 0], [-along[1], along[0], 0], [0, 0, 1]], np.float64)
    corner = Ruler(0.0, lens, turn @ plane).points_mm([(0, 0)])[0]
    shift = np.array([[1, 0, -corner[0]], [0, 1, -corner[1]], [0, 0, 1]], np.float64)
    whole = shift @ turn @ plane
    return np.asarray(whole / whole[2, 2], np.float64)


def _mm_per_px(ruler: Ruler, at: tuple[float, float]) -> float:
    """At a point of the frame, the mean of both directions."""
    x, y = at
    p = ruler.points_mm([(x - 0.5, y), (x + 0.5, y), (x, y - 0.5), (x, y + 0.5)])
    return float((np.linalg.norm(p[1] - p[0]) + np.linalg.norm(p[3] - p[2])) / 2)


def overlay(
    frame: Gray, board: Board, ruler: Ruler, length: tuple[tuple[int, int], tuple[int, int]] | None = None
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR: the detected corners, and a grid in the plane of the strip, about eight lines across.

    length: ends of the known length, in place of a board.
    """
    canvas = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)
    height, width = frame.shape
    xs, ys = np.meshgrid(np.linspace(0, width - 1, 200), np.linspace(0, height - 1, 100))
    mm = ruler.points_mm(np.stack([xs.ravel(), ys.ravel()], axis=1)).reshape(100, 200, 2)
    step = _round_step(float(np.ptp(mm[..., 0])) / 8)
    for axis in (0, 1):
        line = np.floor(mm[..., axis] / step)
        changes = np.argwhere(np.diff(line, axis=1 - axis) != 0)
        for row, column in changes:
            cv2.circle(canvas, (round(float(xs[row, column])), round(float(ys[row, column]))), 1, (200, 160, 40), -1)
    found = None if length is not None else _corners(frame, board)
    if length is not None:
        cv2.line(canvas, *length, (80, 220, 80), 2, cv2.LINE_AA)
        for end in length:
            cv2.drawMarker(canvas, end, (80, 220, 80), cv2.MARKER_TILTED_CROSS, 14, 2, cv2.LINE_AA)
    for x, y in [] if found is None else found[0]:
        cv2.circle(canvas, (round(float(x)), round(float(y))), 4, (80, 220, 80), 1)
    legend = f"blue: every {step:g} mm; {ruler.mm_per_px:.4f} mm/px in the middle"
    legend += "; green: the corners found" if found is not None else "; green: the known length" if length else ""
    label(canvas, legend, (8, height - 10))
    return np.asarray(canvas, np.uint8)


def _round_step(about: float) -> float:
    power = 10.0 ** np.floor(np.log10(max(about, 1e-9)))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= about))


def print_board(board: Board, path: Path, *, dry_run: bool = False) -> None:
    """Write the board at its true size as PDF or PNG, whole or not at all.  Raises CalibrationError."""
    coded = {".pdf": _pdf, ".png": _png}.get(path.suffix.lower())
    if coded is None:
        raise CalibrationError(f"{path}: give a name that ends in .pdf or .png")
    longest_mm = max(board.columns, board.rows) * board.square_mm
    if longest_mm > MAX_MM:
        raise CalibrationError(
            f"a board of {longest_mm:g} mm is longer than the {MAX_MM:g} that can be printed: give fewer --squares or "
            "a smaller --square-mm"
        )
    data = coded(board.picture())
    try:
        if not dry_run:
            atomic_files.replace(path, data, mode=atomic_files.SHARED)
    except OSError as error:
        raise CalibrationError(f"{path} cannot be written: {error.strerror or error}") from error


def _png(picture: Gray) -> bytes:
    """With the resolution in a pHYs chunk, so that the board prints at its true size."""
    _, coded = cv2.imencode(".png", picture)
    data = bytes(coded)
    per_m = round(DPI / MM_PER_INCH * 1000)
    body = b"pHYs" + struct.pack(">IIB", per_m, per_m, 1)
    chunk = struct.pack(">I", 9) + body + struct.pack(">I", zlib.crc32(body))
    return data[:33] + chunk + data[33:]  # behind the signature and IHDR


def _pdf(picture: Gray) -> bytes:
    """One page, as large as the board.  Source: ISO 32000-1, 7.5 and 8.9."""
    height, width = picture.shape
    points = [side * 72 / DPI for side in (width, height)]
    pixels = zlib.compress(picture.tobytes(), 9)
    draw = f"q {points[0]:.3f} 0 0 {points[1]:.3f} 0 0 cm /Board Do Q".encode()
    image = (
        f"/Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceGray "
        f"/BitsPerComponent 8 /Filter /FlateDecode /Length {len(pixels)}"
    )
    bodies = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {points[0]:.3f} {points[1]:.3f}] "
        "/Resources << /XObject << /Board 5 0 R >> >> /Contents 4 0 R >>".encode(),
        f"<< /Length {len(draw)} >>\nstream\n".encode() + draw + b"\nendstream",
        f"<< {image} >>\nstream\n".encode() + pixels + b"\nendstream",
    ]
    whole, places = b"%PDF-1.4\n", []
    for number, body in enumerate(bodies, start=1):
        places.append(len(whole))
        whole += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    tail = f"xref\n0 {len(bodies) + 1}\n0000000000 65535 f \n{table}"
    tail += f"trailer << /Size {len(bodies) + 1} /Root 1 0 R >>\nstartxref\n{len(whole)}\n%%EOF\n"
    return whole + tail.encode()
