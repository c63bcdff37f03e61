"""The generated strip: endless moving steel whose defects are known, so that a first run needs no camera.

Row y of the strip is row `y - n * speed_px` of frame n: new steel enters at the bottom edge and leaves at the top.
A frame depends on the parameters and n alone, so frames can be drawn in any order. The defects imitate the six NEU
classes; they do not replace pictures of a real line.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import cv2
import numpy as np
import numpy.typing as npt

from edge.camera.sources.contract import DEFAULT_FPS, Lost, Picture, Source, SourceInfo, SourceSpec, pace_s
from edge.errors import CameraError, Problem
from edge.frame import Box, Float32s, Float64s, Gray
from edge.host.clock import Clock
from edge.host.url import public_url

CLASSES = ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches")
LONGEST_PX = 220
"""Maximum length and width of a defect."""
CLEAR_PX = 260
"""Clean steel between two defects, so that each becomes an event of its own."""
SPEED_PX = 24
"""Default travel per frame."""
PERIOD_PX = 2048
"""The surface without its defects repeats after this many rows."""
CACHED_DEFECTS = 16
LEVEL = 118.0
"""Mean gray of clean steel."""

BACKGROUND: Final = 8
"""Gray beside the strip."""
WANDER_ROWS: Final = 12_000
"""The strip moves to one side, to the other and back over this many rows."""
TAPER_ROWS: Final = 20_000


@dataclass(frozen=True, slots=True)
class StripDefect:
    """One defect.  box: x y w h in px of the strip, y along it."""

    track: int
    """Counts from 1 along the strip; a frame shows only some of them.  Below 0: the turn of the roll that left it."""
    class_name: str
    box: Box


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A defect and what it adds to the gray of the steel: (h, w) int16."""

    defect: StripDefect
    delta: npt.NDArray[np.int16]


class Strip:
    """Frames of one generated strip."""

    def __init__(
        self,
        *,
        width: int = 800,
        height: int = 400,
        seed: int = 1,
        speed_px: int = SPEED_PX,
        spacing_px: int = 900,
        noise: float = 2.0,
        classes: tuple[str, ...] = CLASSES,
        mm_per_px: float | None = None,
        border_px: int = 0,
        wander_px: float = 0.0,
        taper_px: float = 0.0,
        strip_px: int = 0,
        x_px: int = 0,
        mark_px: float = 0.0,
        mark_x_px: int = 0,
        mark_class: str = "inclusion",
        mark_jitter_px: float = 0.0,
        mark_missing: float = 0.0,
        defects: int = 1,
    ) -> None:
        """speed_px: travel per frame.  spacing_px: mean distance between defects.  noise: sigma of the sensor, gray.

        mm_per_px: the scale that the strip states; it changes no frame.  border_px: dark background on both sides; 0:
        the strip fills the picture.  wander_px: how far the strip moves to both sides.  taper_px: how much narrower it
        gets over TAPER_ROWS rows; then it gets wider again.  defects: 0: a strip without any, as calibrations need it.
        strip_px, x_px: width of the strip, and where this camera's picture starts on it; 0: the picture is the strip.
        Cameras of one seed and strip_px see the same defects where their pictures overlap.
        mark_px: a roll marks the strip each so many rows, with this class, at mark_x_px on the strip; 0: none does.
        mark_jitter_px: sigma of its places along the strip.  mark_missing: share of its places without a mark.
        Raises CameraError for a value outside its limits.
        """
        _check("width", width, 256, 8192)
        _check("height", height, 64, 4096)
        _check("seed", seed, 0, 2**31 - 1)
        _check("speed_px", speed_px, 0, 4096)
        _check("spacing_px", spacing_px, LONGEST_PX + CLEAR_PX, 1_000_000)
        _check("noise", noise, 0, 32)
        if mm_per_px is not None:
            _check("mm_per_px", mm_per_px, 0.001, 1000)
        strip_px = strip_px or width
        _check("strip_px", strip_px, width, 65_536)
        _check("x_px", x_px, 0, strip_px - width)
        if mark_px:
            _check("mark_px", mark_px, LONGEST_PX + CLEAR_PX, 1_000_000)
        _check("mark_x_px", mark_x_px, 0, strip_px - LONGEST_PX)
        _check("mark_jitter_px", mark_jitter_px, 0, LONGEST_PX / 4)
        _check("mark_missing", mark_missing, 0, 1)
        if mark_class not in CLASSES:
            raise _refusal("mark_class", mark_class, f"one of {','.join(CLASSES)}")
        _check("border_px", border_px, 0, width // 4)
        _check("wander_px", wander_px, 0, border_px / 2)
        _check("taper_px", taper_px, 0, width / 4)
        _check("defects", defects, 0, 1)
        if not classes or set(classes) - set(CLASSES):
            raise _refusal("classes", ",".join(classes), f"some of {','.join(CLASSES)}")
        self.width, self.height, self.seed = width, height, seed
        self.speed_px, self.spacing_px, self.noise, self.classes = speed_px, spacing_px, noise, classes
        self.border_px, self.wander_px, self.taper_px = border_px, wander_px, taper_px
        self.strip_px, self.x_px = strip_px, x_px
        self.mark_px, self.mark_x_px, self.mark_class = mark_px, mark_x_px, mark_class
        self.mark_jitter_px, self.mark_missing = mark_jitter_px, mark_missing
        self._mark: npt.NDArray[np.int16] | None = None
        self.has_defects = bool(defects)
        self._drawn: OrderedDict[int, _Drawn] = OrderedDict()
        rng = np.random.default_rng([seed, 0])
        # The noise is shifted to start at 0, so that it fits uint8, and the light is lowered by the same amount. Then
        # a frame is two saturating uint8 additions instead of float arithmetic.
        lift = int(np.ceil(4 * noise))
        self._surface = np.ascontiguousarray(_surface(rng, strip_px, height)[:, x_px : x_px + width])
        self._light = _light(rng, width, height, lift)
        self._background = max(0, BACKGROUND - lift)
        grain = rng.normal(lift, noise, (height + 64, width + 64)) if noise else np.zeros((height + 64, width + 64))
        self._grain = np.clip(np.rint(grain), 0, 2 * lift).astype(np.uint8)

    @classmethod
    def from_url(cls, url: str) -> Strip:
        """A strip from `strip:` or `strip:?width=1600&seed=7&classes=scratches,patches`.  Raises CameraError."""
        return cls(**parameters(url))

    def frame(self, n: int) -> Gray:
        """Frame n >= 0.  Returns (height, width) uint8, a fresh array."""
        return self.view(n * self.speed_px, n)

    def view(self, top: int, n: int) -> Gray:
        """A frame that starts at this row of the strip, whatever its speed was, with the sensor's noise of frame n."""
        start = top % PERIOD_PX
        rng = np.random.default_rng([self.seed, 1, n])
        down, right = (int(v) for v in rng.integers(0, 64, 2))
        picture: Gray = np.asarray(cv2.add(self._surface[start : start + self.height], self._light), np.uint8)
        for drawn in self._near(top, top + self.height):
            _paint(picture, drawn, top, self.x_px)
        if self.border_px:
            _mask(picture, *self.edges(np.arange(top, top + self.height)), int(self._background))
        grain = self._grain[down : down + self.height, right : right + self.width]
        return np.asarray(cv2.add(picture, grain, dst=picture), np.uint8)

    def edges(self, rows: npt.NDArray[np.integer[Any]]) -> tuple[Float64s, Float64s]:
        """The left and the right edge of the strip at these rows of it, px of the frame: (n,) float64 each."""
        off = self.wander_px * np.sin(2 * np.pi * rows / WANDER_ROWS)
        phase = np.mod(rows / TAPER_ROWS, 2.0)
        narrow = self.taper_px / 2 * np.where(phase < 1, phase, 2 - phase)
        left, right = self.border_px + off + narrow, self.strip_px - self.border_px + off - narrow
        return left - self.x_px, right - self.x_px

    def truth(self, n: int) -> tuple[tuple[StripDefect, Box], ...]:
        """The defects that show in frame n, each with its visible part: x y w h in px of the frame."""
        top = n * self.speed_px
        found = []
        for defect in self.defects(top, top + self.height):
            x, y, w, h = defect.box
            first, last = max(0, y - top), min(self.height, y - top + h)
            left, right = max(0, x - self.x_px), min(self.width, x - self.x_px + w)
            if first < last and left < right:
                found.append((defect, (left, first, right - left, last - first)))
        return tuple(found)

    def defects(self, first_row: int, end_row: int) -> list[StripDefect]:
        """All defects of the strip that may reach into these rows, in order along it, the roll's marks last."""
        return [drawn.defect for drawn in self._near(first_row, end_row)]

    def _near(self, top: int, end: int) -> list[_Drawn]:
        if not self.has_defects:
            return self._marks(top, end)
        # Each stretch of spacing_px holds one defect; only the first is clean: the strip starts with good steel.
        first = max(1, (top - LONGEST_PX) // self.spacing_px)
        last = (end - 1) // self.spacing_px
        return [*(self._draw(track) for track in range(first, last + 1)), *self._marks(top, end)]

    def _marks(self, top: int, end: int) -> list[_Drawn]:
        """What one place of a roll leaves: the same shape each time, near its place along the strip."""
        if not self.mark_px:
            return []
        if self._mark is None:
            shape = _DRAWERS[self.mark_class](np.random.default_rng([self.seed, 4]))
            self._mark = np.rint(shape).astype(np.int16)
        h, w = self._mark.shape
        found = []
        for turn in range(max(1, int((top - 2 * LONGEST_PX) / self.mark_px)), int(end / self.mark_px) + 2):
            rng = np.random.default_rng([self.seed, 5, turn])
            is_missing, off = rng.random() < self.mark_missing, rng.normal(0, self.mark_jitter_px)
            y = round(turn * self.mark_px + float(np.clip(off, -LONGEST_PX, LONGEST_PX)))
            if not is_missing and y < end and y + h > top:
                found.append(_Drawn(StripDefect(-turn, self.mark_class, (self.mark_x_px, y, w, h)), self._mark))
        return found

    def _draw(self, track: int) -> _Drawn:
        if track in self._drawn:
            self._drawn.move_to_end(track)
            return self._drawn[track]
        round_, place = divmod(track - 1, len(self.classes))
        # Each round of tracks holds every class once, shuffled, so that every class appears soon.
        order = np.random.default_rng([self.seed, 2, round_]).permutation(len(self.classes))
        name = self.classes[int(order[place])]
        rng = np.random.default_rng([self.seed, 3, track])
        delta = _DRAWERS[name](rng)
        h, w = delta.shape
        margin = int(np.ceil(self.border_px + self.wander_px + self.taper_px / 2)) if self.border_px else 0
        x = int(rng.integers(margin, max(margin, self.strip_px - margin - w) + 1))
        y = track * self.spacing_px + int(rng.integers(0, self.spacing_px - LONGEST_PX - CLEAR_PX + 1))
        drawn = _Drawn(StripDefect(track, name, (x, y, w, h)), np.rint(delta).astype(np.int16))
        self._drawn[track] = drawn
        if len(self._drawn) > CACHED_DEFECTS:
            self._drawn.popitem(last=False)
        return drawn


def parameters(url: str) -> dict[str, Any]:
    """The parameters of `Strip` that the URL sets; their limits are not checked.  Raises CameraError."""
    form = "should be strip: or strip:?key=value&key=value"
    if not is_strip(url):
        raise _refusal("source", repr(public_url(url)), form)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _refusal("source", repr(public_url(url)), form) from None
    if parts.netloc or parts.path:
        raise _refusal("source", repr(public_url(url)), form)
    values: dict[str, Any] = {}
    for key, text in parse_qsl(parts.query, keep_blank_values=True):
        if key not in _READERS:
            raise _refusal(key, text, f"a strip has only {', '.join(_READERS)}")
        if key in values:
            raise _refusal(key, text, "set once")
        try:
            values[key] = _READERS[key](text)
        except ValueError:
            kind = "a number" if _READERS[key] is float else "a whole number"
            raise _refusal(key, text, kind) from None
    return values


def is_strip(url: str) -> bool:
    return url.startswith("strip:")


def open_strip(spec: SourceSpec, clock: Clock) -> Source:
    return StripSource(spec, clock)


class StripSource:
    """The generated strip as a source."""

    def __init__(self, spec: SourceSpec, clock: Clock) -> None:
        """Raises CameraError for a URL that `Strip` refuses."""
        self._clock = clock
        self._strip = Strip.from_url(spec.url)
        self._number = 0
        fps = DEFAULT_FPS if spec.fps is None else spec.fps
        self.period_s = pace_s(fps)
        self.actual = SourceInfo("strip", self._strip.width, self._strip.height, fps, "GREY")

    def read(self) -> Picture:
        start = self._clock.monotonic_ns()
        pixels = self._strip.frame(self._number)
        number, self._number = self._number, self._number + 1
        return Picture(pixels, "", (self._clock.monotonic_ns() - start) // 1000, number)

    def take_lost(self) -> tuple[Lost, ...]:
        return ()

    def close(self) -> None:
        pass


def _paint(picture: Gray, drawn: _Drawn, top: int, left: int) -> None:
    """top, left: of the picture, on the strip."""
    x, y, w, h = drawn.defect.box
    first, last = max(0, y - top), min(picture.shape[0], y - top + h)
    begin, end = max(0, x - left), min(picture.shape[1], x - left + w)
    if first >= last or begin >= end:
        return
    part = picture[first:last, begin:end]
    delta = drawn.delta[first + top - y : last + top - y, begin + left - x : end + left - x]
    np.clip(part + delta, 0, 255, out=part, casting="unsafe")


def _mask(picture: Gray, left: Float64s, right: Float64s, background: int) -> None:
    """Darken what lies beside the strip, with edges of part of a pixel.  left, right: (H,), px."""
    columns = np.arange(picture.shape[1])[None, :]
    inside = np.clip(columns + 1 - left[:, None], 0, 1) * np.clip(right[:, None] - columns, 0, 1)
    np.copyto(picture, np.rint(picture * inside + background * (1 - inside)).astype(np.uint8))


def _check(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise _refusal(key, str(value), f"{low} to {high}")


def _refusal(key: str, value: str, allowed: str) -> CameraError:
    return CameraError(str(Problem(key, value, allowed, "Change the source of this camera")))


def _name(text: str) -> str:
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


_READERS: dict[str, Callable[[str], int | float | str | tuple[str, ...]]] = {
    "width": int,
    "height": int,
    "seed": int,
    "speed_px": int,
    "spacing_px": int,
    "noise": float,
    "classes": _names,
    "mm_per_px": float,
    "border_px": int,
    "wander_px": float,
    "taper_px": float,
    "strip_px": int,
    "x_px": int,
    "mark_px": float,
    "mark_x_px": int,
    "mark_class": _name,
    "mark_jitter_px": float,
    "mark_missing": float,
    "defects": int,
}


def _surface(rng: np.random.Generator, width: int, height: int) -> Gray:
    """(PERIOD_PX + height, width) uint8, mean LEVEL - 32: rolled steel that wraps around after PERIOD_PX rows."""
    shape = (PERIOD_PX, width)
    rolling = 2.2 * _field(rng, shape, 0.6, 5.0)
    streaks = 1.4 * _field(rng, shape, 1.5, 120.0)
    cloud = 2.5 * _field(rng, (PERIOD_PX // 8, width // 8 + 1), 6.0, 10.0)
    wide_cloud = cv2.resize(cloud, (width, PERIOD_PX), interpolation=cv2.INTER_LINEAR)
    gray = np.clip(np.rint(LEVEL - 32 + rolling + streaks + wide_cloud), 0, 255).astype(np.uint8)
    return np.concatenate([gray, gray[:height]])


def _light(rng: np.random.Generator, width: int, height: int, lift: int) -> Gray:
    """(height, width) uint8, about 32 - lift: the uneven light at the camera, which does not move."""
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    along = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    tilt, bend, fall = rng.uniform(-6, 6), rng.uniform(2, 8), rng.uniform(-3, 3)
    light = 32 - lift + tilt * across - bend * across**2 + fall * along
    return np.asarray(np.clip(np.rint(light), 0, 255), np.uint8)


def _field(rng: np.random.Generator, shape: tuple[int, int], across_px: float, along_px: float) -> Float32s:
    """Smooth noise, mean 0 and sigma 1, whose rows wrap around.  Returns float32 of `shape`."""
    # Very smooth noise is drawn small and enlarged: a blur of 30 px takes longer than all the rest. Powers of two
    # divide the rows of the surface, so that it still wraps around.
    across, along = (1 << max(0, int(sigma_px / 2).bit_length() - 1) for sigma_px in (across_px, along_px))
    rows, columns = -(-shape[0] // along), -(-shape[1] // across)
    field = rng.standard_normal((rows, columns), np.float32)
    wrap = min(rows, int(4 * along_px / along) + 1)
    field = np.concatenate([field[-wrap:], field, field[:wrap]])
    field = _blur(field, across_px / across, along_px / along)[wrap:-wrap]
    if (across, along) != (1, 1):
        # One more row on each side, so that the enlarged field wraps around, too.
        field = np.concatenate([field[-1:], field, field[:1]])
        large = cv2.resize(field, (columns * across, (rows + 2) * along), interpolation=cv2.INTER_CUBIC)
        field = np.asarray(large, np.float32)[along : along + shape[0], : shape[1]]
    mean, sigma = cv2.meanStdDev(field)
    return np.asarray((field - np.float32(mean[0, 0])) * np.float32(1 / max(sigma[0, 0], 1e-6)), np.float32)


def _blur(image: npt.NDArray[np.uint8] | Float32s, across_px: float, along_px: float) -> Float32s:
    """Gaussian.  Returns float32 of the same shape and range."""
    blurred = cv2.GaussianBlur(image, (0, 0), sigmaX=across_px, sigmaY=along_px)
    return np.asarray(blurred, np.float32)


def _size(rng: np.random.Generator, low: int, high: int = LONGEST_PX) -> int:
    return int(rng.integers(low, high + 1))


def _ink(delta: npt.NDArray[np.floating[Any]]) -> Float32s:
    """Crop to the visible part, so that the box of a defect is no larger than the defect."""
    seen = np.abs(delta) > 8
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    return np.asarray(delta[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], np.float32)


def _edge(rng: np.random.Generator, h: int, w: int) -> Float32s:
    """A ragged area that fades out at its rim: (h, w) float32, 0 to 1."""
    x, y = np.linspace(-1, 1, w, dtype=np.float32)[None, :], np.linspace(-1, 1, h, dtype=np.float32)[:, None]
    reach = np.float32(0.93) - np.sqrt(np.sqrt(x**4 + y**4)) + np.float32(0.06) * _field(rng, (h, w), 9, 9)
    rim = np.minimum(1 - np.abs(x), 1 - np.abs(y))  # no straight edges at the border
    return np.asarray(np.clip(np.minimum(reach, rim) / 0.13, 0, 1), np.float32)


def _crazing(rng: np.random.Generator) -> Float32s:
    """A net of fine dark cracks, mostly across, on a coarse grainy surface."""
    h, w = _size(rng, 160), _size(rng, 160)
    cracks = np.zeros((h, w), np.uint8)
    for _ in range(int(rng.integers(9, 16))):
        steps = int(rng.integers(8, 22))
        x = rng.uniform(-0.1, 0.7) * w + np.arange(steps) * 6.0
        y = rng.uniform(0.03, 0.97) * h + np.cumsum(rng.normal(rng.normal(0, 0.5), 3.2, steps))
        points = np.stack([x, y], axis=1).round().astype(np.int32)
        cv2.polylines(cracks, [points], False, int(rng.integers(120, 256)), int(rng.integers(1, 3)), cv2.LINE_AA)
    dark = _blur(cracks, 0.8, 0.8) / 255
    dark *= np.clip(0.8 + 0.5 * _field(rng, (h, w), 6, 6), 0, 1)  # cracks fade in and out
    grain = np.float32(rng.uniform(17, 26)) * _field(rng, (h, w), 0.75, 0.75) + 6 * _field(rng, (h, w), 12, 20)
    return _ink((rng.uniform(8, 28) + grain - 75 * dark) * _edge(rng, h, w))


def _inclusion(rng: np.random.Generator) -> Float32s:
    """Dark slivers drawn out along the strip, ragged, on smooth steel."""
    h, w = _size(rng, 130), _size(rng, 60, 120)
    dark = np.zeros((h, w), np.float32)
    y, x = np.arange(h, dtype=np.float32)[:, None], np.arange(w, dtype=np.float32)[None, :]
    ragged = 0.9 * _field(rng, (h, w), 1.6, 7)
    for _ in range(int(rng.integers(2, 6))):
        half_w, half_h = rng.uniform(3, 9), rng.uniform(0.18, 0.48) * h
        middle_x, middle_y = rng.uniform(14, w - 14), 0.5 * h + rng.uniform(-0.9, 0.9) * (0.5 * h - half_h)
        inside = 1 - ((x - middle_x) / half_w) ** 2 - ((y - middle_y) / half_h) ** 2
        sliver = np.clip((inside + ragged * (inside > -0.8)) * 1.4, 0, 1)
        dark = np.maximum(dark, sliver * np.float32(rng.uniform(0.7, 1)))
    dark = _blur(dark, 0.9, 0.9)
    dark[[0, -1]] = 0
    return _ink(np.float32(-rng.uniform(38, 62)) * dark)


def _patches(rng: np.random.Generator) -> Float32s:
    """Large dark blots with clear borders in a bright, grainy surround."""
    h, w = _size(rng, 170), _size(rng, 170)
    edge = _edge(rng, h, w)
    shape = _field(rng, (h, w), rng.uniform(16, 26), rng.uniform(18, 32))
    blot = np.clip((shape - np.quantile(shape, rng.uniform(0.5, 0.65))) * 6 + 0.06 * _field(rng, (h, w), 1, 1), 0, 1)
    grain = rng.uniform(11, 18) * _field(rng, (h, w), 0.8, 1.4)
    bright, dark = rng.uniform(45, 85), rng.uniform(-65, -30)
    return _ink((bright + (dark - bright) * blot + grain) * edge)


def _pitted_surface(rng: np.random.Generator) -> Float32s:
    """Many small dark pits on a brightened, smooth surface."""
    h, w = _size(rng, 150), _size(rng, 150)
    pits = np.zeros((h, w), np.uint8)
    fine = rng.random() < 0.5
    for _ in range(int(h * w / (90 if fine else 260))):
        centre = (int(rng.integers(4, w - 4)), int(rng.integers(4, h - 4)))
        axes = tuple(int(v) for v in (rng.integers(1, 3, 2) if fine else rng.integers(1, 5, 2)))
        cv2.ellipse(pits, centre, axes, float(rng.uniform(0, 180)), 0, 360, int(rng.integers(110, 256)), -1)
    dark = _blur(pits, 0.9, 0.9) / 255
    lift = rng.uniform(22, 65) + 4 * _field(rng, (h, w), 14, 14)
    return _ink((lift - rng.uniform(42, 68) * dark) * _edge(rng, h, w))


def _rolled_in_scale(rng: np.random.Generator) -> Float32s:
    """Clusters of short dark flecks lying across, on a finely brushed surface."""
    h, w = _size(rng, 150), _size(rng, 150)
    flecks = np.zeros((h, w), np.uint8)
    for _ in range(int(rng.integers(4, 8))):
        middle = rng.uniform(0.2, 0.8, 2) * (w, h)
        for _ in range(int(rng.integers(7, 15))):
            x, y = (middle + rng.normal(0, 1, 2) * (w / 10, h / 8)).clip(8, (w - 8, h - 8))
            axes = (int(rng.integers(2, 7)), int(rng.integers(1, 3)))
            tilt = float(rng.normal(-8, 8))
            cv2.ellipse(flecks, (int(x), int(y)), axes, tilt, 0, 360, int(rng.integers(130, 256)), -1)
    dark = _blur(flecks, 0.8, 0.8) / 255
    glint = np.roll(dark, -2, axis=0)  # the upper rim of a fleck catches the light
    brushed = rng.uniform(8, 12) * _slanted(rng, h, w)
    return _ink((rng.uniform(0, 10) + brushed + 22 * glint - rng.uniform(58, 78) * dark) * _edge(rng, h, w))


def _slanted(rng: np.random.Generator, h: int, w: int) -> Float32s:
    """Fine brush marks lying nearly across: (h, w) float32, sigma about 1."""
    marks = _field(rng, (2 * h, 2 * w), 5.0, 0.7)
    turn = cv2.getRotationMatrix2D((float(w), float(h)), float(rng.uniform(8, 22)), 1.0)
    return np.asarray(cv2.warpAffine(marks, turn, (2 * w, 2 * h))[h // 2 : h // 2 + h, w // 2 : w // 2 + w], np.float32)


def _scratches(rng: np.random.Generator) -> Float32s:
    """Bright lines along the strip, some double, some broken."""
    h, w = _size(rng, 160), _size(rng, 70, 150)
    bright = np.zeros((h, w), np.float32)
    for _ in range(int(rng.integers(3, 8))):
        line = np.zeros((h, w), np.uint8)
        x, lean = rng.uniform(8, w - 8), rng.normal(0, 4)
        first, last = (int(v * h) for v in (rng.uniform(0, 0.25), rng.uniform(0.65, 1)))
        cv2.line(line, (int(x), first), (int(x + lean), last), 255, int(rng.integers(1, 6)), cv2.LINE_AA)
        broken = np.clip(0.85 + 0.35 * _field(rng, (h, 1), 1, 9), 0, 1)
        bright = np.maximum(bright, line.astype(np.float32) / 255 * broken * rng.uniform(0.55, 1))
    soft = _blur(bright, 0.7, 0.7)
    return _ink((rng.uniform(75, 125) + 10 * _field(rng, (h, w), 1, 3)) * soft)


_DRAWERS: dict[str, Callable[[np.random.Generator], Float32s]] = {
    "crazing": _crazing,
    "inclusion": _inclusion,
    "patches": _patches,
    "pitted_surface": _pitted_surface,
    "rolled-in_scale": _rolled_in_scale,
    "scratches": _scratches,
}
"""Each gives (h, w) float32, what a defect adds to the gray of the steel."""
