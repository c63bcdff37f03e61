"""Does the picture show a surface at all?  Checked before the network sees a pixel.

`fault` checks one picture alone. A `QualityMonitor` follows one camera and compares each picture with the camera's own
good pictures, which it learns from the first frames and adapts slowly. The checks use 64 columns of the picture: they
take a small part of the time that the network takes for one tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np

from edge import config
from edge.frame import Float32s, Gray
from edge.host.clock import NS_PER_S

STEP_PX: Final = 7
"""Every seventh pixel each way shows a covered lens; an odd step, so that no regular pattern aligns with it."""
DARK: Final = 6.0
BRIGHT: Final = 249.0
"""Gray levels: limits of the mean."""
FLAT: Final = 0.5
"""Gray levels: a smaller standard deviation comes from no sensor."""

COLUMNS: Final = 64
"""Columns that are checked, evenly spread; every pixel of each, because decoder faults lie along rows."""
LINES: Final = 32
"""Rows that the sharpness is measured on, evenly spread."""
ENTER_FRAMES: Final = 3
LEAVE_FRAMES: Final = 3
"""Frames in a row that start and end an episode, so that one torn frame is no event."""
SLOW_FRAMES: Final = 8
"""Minimum number of frames for faults that show only over time: frozen, blurred, shifted."""
LEARN_FRAMES: Final = 20
"""Good frames until the camera's own picture is known; before that, nothing is compared with it."""
ADAPT: Final = 1 / 2000
"""Weight of each good frame in the running means: light and dirt change over hours, a knock does not."""
SOFT: Final = 0.305
"""Change to the next pixel over change to the fourth: a picture without any edge has 0.25. The softest of 4,000 good
pictures of steel has 0.31 (docs/decisions/005)."""
SOFT_CLEAR: Final = 1.1
"""A blurred picture counts as sharp again only above this many times the limit."""
FADED: Final = 0.5
"""A picture is blurred only if its change from pixel to pixel is below this share of the usual one."""
SEAM: Final = 5.0
"""Jump between two rows over the larger of the jumps beside it. Good pictures of steel reach 3.8."""
MIN_SEAM: Final = 2.0
"""Gray levels: a smaller jump is hidden in the noise."""
OWN_FACTOR: Final = 2.0
"""A picture is torn or corrupted only if it is this many times worse than the camera's own good pictures."""
REPEATED: Final = 0.1
"""Share of the rows that may be copies of the row above, in one run. Decoders fill lost rows like that."""
BLOCKY: Final = 0.03
"""Share of the picture that may be uniform blocks of 16 rows, neither black nor white."""
BLOCK_PX: Final = 16
EVEN: Final = 2.0
"""Standard deviation of a row, gray levels, up to which a copy of it is no evidence."""
STRUCTURE: Final = 8.0
"""Standard deviation of the column means, gray levels: below it the picture has no structure that could shift."""
SHIFT_EVERY: Final = 8
"""Frames per search for a shift."""
PROFILE_EVERY: Final = 8
"""Good frames per update of the known column means, once these are known."""


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """The result of checking one frame.

    fault: why this frame cannot be inspected, or None.  started, ended: the fault of an episode that started or
    ended with this frame.
    """

    fault: str | None = None
    started: str | None = None
    ended: str | None = None


GOOD: Final = ImageCheck()


@dataclass(frozen=True, slots=True)
class ImageStats:
    """Brightness and sharpness of one picture.

    brightness: mean gray, 0 to 255.
    sharpness: change to the next pixel over change to the fourth, 0.25 without any edge.
    """

    brightness: float
    sharpness: float


def image_stats(image: Gray) -> ImageStats:
    """The statistics of one picture, as in `QualityMonitor`.  image: (H, W) uint8, the inspected part of a frame."""
    return ImageStats(float(cv2.mean(_columns(image))[0]), _softness(_lines(image))[0])


def fault(image: Gray) -> str | None:
    """Why this picture alone cannot be inspected, or None.

    image: (H, W) uint8.  The mean shows a dark or saturated picture. A picture without any texture (standard deviation
    below half a gray level) comes from no working sensor, whatever its brightness.
    """
    sample = image[::STEP_PX, ::STEP_PX]
    mean = float(np.mean(sample))
    if mean < DARK:
        return "dark"
    if mean > BRIGHT:
        return "saturated"
    if float(np.std(sample)) < FLAT:
        return "blank"
    return None


class Episodes:
    """Episodes of bad pictures of one camera: a few frames in a row start or end one; all frames between are bad."""

    def __init__(self) -> None:
        self.reason: str | None = None
        """The fault of the present episode, or None."""
        self._candidate: str | None = None
        self._streak = 0

    def step(self, found: str | None) -> ImageCheck:
        """Add one frame.  found: its fault, or None."""
        if found == self.reason:
            self._candidate, self._streak = None, 0
            return GOOD if found is None else ImageCheck(found)
        self._streak = self._streak + 1 if found == self._candidate or self._streak == 0 else 1
        self._candidate = found
        if self._streak < (LEAVE_FRAMES if found is None else ENTER_FRAMES):
            return ImageCheck(found or self.reason)
        ended, self.reason = self.reason, found
        self._candidate, self._streak = None, 0
        return ImageCheck(found, started=found, ended=ended if found is None else None)


class QualityMonitor:
    """Checks every frame of one camera. Pure: the time is an argument.  Owned by one thread."""

    def __init__(self, settings: config.ImageQuality, *, frozen: bool) -> None:
        """frozen: whether an exactly repeated picture is a fault: it is one where the source has sensor noise."""
        self._settings = settings
        self._frozen = frozen if settings.frozen is None else settings.frozen
        self._min_fault_ns = int(settings.min_fault_s * NS_PER_S)
        self._episodes = Episodes()
        self._shape: tuple[int, ...] = ()
        self._last: Gray | None = None
        self._brightness = 0.0
        self._is_dark = False
        self._is_saturated = False
        self._unchanged = _Persistence()
        self._blurred = _Persistence()
        self._displaced = _Persistence()
        self._own = _OwnPicture()
        self.stats: ImageStats | None = None
        """Of the last picture that was neither dark, saturated, blank nor frozen."""

    @property
    def reason(self) -> str | None:
        """The fault of the present episode, or None."""
        return self._episodes.reason

    def step(self, image: Gray, now_ns: int) -> ImageCheck:
        """Check the next frame, also one that will not be inspected.  image: (H, W) uint8, not kept."""
        return self.record(self._fault(image, now_ns) if self._settings.enabled else None)

    def record(self, found: str | None) -> ImageCheck:
        """Add the next frame with a fault that is already known, or None."""
        return self._episodes.step(found)

    def _fault(self, image: Gray, now_ns: int) -> str | None:
        if image.shape != self._shape:
            self._shape, self._last, self._own = image.shape, None, _OwnPicture()
            self._unchanged, self._blurred, self._displaced = _Persistence(), _Persistence(), _Persistence()
        sample = _columns(image)
        is_frozen = self._has_frozen(sample, now_ns)
        found = self._exposure_fault(sample)
        if found is not None:
            return found
        if is_frozen:
            return "frozen"
        traits = _traits(image, sample)
        self.stats = ImageStats(self._brightness, traits.softness)
        found = self._damage(traits)
        if found is not None:
            return found
        found = self._slow_fault(traits, sample, now_ns)
        if found is None and self._blurred.count == 0 and self._displaced.count == 0:
            self._own.learn(traits, sample)
        return found

    def _has_frozen(self, sample: Gray, now_ns: int) -> bool:
        if not self._frozen:
            return False
        same = self._last is not None and np.array_equal(self._last, sample)
        self._last = sample
        return self._unchanged.step(holds=same, now_ns=now_ns, min_ns=self._min_fault_ns)

    def _exposure_fault(self, sample: Gray) -> str | None:
        """Dark, saturated or blank.  A dark camera stays dark until its picture is clearly brighter."""
        mean, spread = (float(value[0, 0]) for value in cv2.meanStdDev(sample))
        settings = self._settings
        self._brightness = mean
        self._is_dark = mean < settings.dark * (1.25 if self._is_dark else 1.0)
        self._is_saturated = mean > (settings.bright - 2.0 if self._is_saturated else settings.bright)
        if self._is_dark:
            return "dark"
        if self._is_saturated:
            return "saturated"
        return "blank" if spread < FLAT else None

    def _damage(self, traits: _Traits) -> str | None:
        own = self._own
        if not self._settings.damage or not own.known:
            return None
        if traits.seam > max(SEAM, OWN_FACTOR * own.seam):
            return "torn"
        is_repeated = traits.repeated > max(REPEATED, OWN_FACTOR * own.repeated)
        if is_repeated or traits.blocky > max(BLOCKY, OWN_FACTOR * own.blocky):
            return "corrupted"
        return None

    def _slow_fault(self, traits: _Traits, sample: Gray, now_ns: int) -> str | None:
        """Blurred or shifted compared with the camera's own picture, for long enough."""
        own, settings = self._own, self._settings
        if not own.known:
            return None
        limit = min(SOFT, settings.focus * own.softness) * (SOFT_CLEAR if self._blurred.holds else 1.0)
        is_soft = traits.softness < limit and traits.change < FADED * own.change
        if self._blurred.step(holds=is_soft, now_ns=now_ns, min_ns=self._min_fault_ns):
            return "blurred"
        is_displaced = settings.shift > 0 and own.displaced(sample, settings.shift)
        if self._displaced.step(holds=is_displaced, now_ns=now_ns, min_ns=self._min_fault_ns):
            return "shifted"
        return None


@dataclass(slots=True)
class _Persistence:
    """Whether a condition has held for SLOW_FRAMES frames and a minimum time."""

    count: int = 0
    since_ns: int = 0
    holds: bool = False

    def step(self, *, holds: bool, now_ns: int, min_ns: int) -> bool:
        if not holds:
            self.count, self.holds = 0, False
            return False
        if self.count == 0:
            self.since_ns = now_ns
        self.count += 1
        self.holds = self.holds or (self.count >= SLOW_FRAMES and now_ns - self.since_ns >= min_ns)
        return self.holds


@dataclass(frozen=True, slots=True)
class _Traits:
    """Measurements of one picture.

    softness: change to the next pixel over change to the fourth.  change: to the next pixel, gray levels.
    seam: largest jump between two rows over its neighbours.  repeated: share of the rows in the longest run of copies.
    blocky: share of uniform blocks.
    """

    softness: float
    change: float
    seam: float
    repeated: float
    blocky: float


class _OwnPicture:
    """What the good pictures of one camera are like."""

    def __init__(self) -> None:
        self.frames = 0
        self.softness = self.change = 0.0
        self.seam = self.repeated = self.blocky = 0.0
        self._profile: Float32s | None = None
        self._recent: Float32s | None = None
        self._usual_change = 0.0
        self._is_displaced = False
        self._checks = 0
        self._has_structure = False

    @property
    def known(self) -> bool:
        return self.frames >= LEARN_FRAMES

    def learn(self, traits: _Traits, sample: Gray) -> None:
        """Add one good frame: a plain mean of the first frames, then a slowly adapting one."""
        self.frames += 1
        share = max(ADAPT, 1 / self.frames)
        self.softness += share * (traits.softness - self.softness)
        self.change += share * (traits.change - self.change)
        # The worst values of good pictures, which decay slowly.
        self.seam = max(self.seam * (1 - ADAPT), traits.seam)
        self.repeated = max(self.repeated * (1 - ADAPT), traits.repeated)
        self.blocky = max(self.blocky * (1 - ADAPT), traits.blocky)
        if self.known and self.frames % PROFILE_EVERY:
            return
        profile = _profile(sample)
        if self._profile is None:
            self._profile, self._recent = profile.copy(), profile.copy()
            return
        assert self._recent is not None
        if self.known:
            share = max(ADAPT * PROFILE_EVERY, 1 / self.frames)
        self._usual_change += share * (float(np.abs(profile - self._profile).mean()) - self._usual_change)
        self._profile += np.float32(share) * (profile - self._profile)
        self._has_structure = float(self._profile.std()) >= STRUCTURE

    def displaced(self, sample: Gray, min_share: float) -> bool:
        """Whether the fixed structure of the picture has moved sideways by min_share of the width or more.

        Searched once in SHIFT_EVERY frames: the last result holds in between.
        """
        if not self._has_structure or self._profile is None or self._recent is None:
            return False
        self._recent += np.float32(0.2) * (_profile(sample) - self._recent)
        self._checks += 1
        if self._checks % SHIFT_EVERY == 0:
            self._is_displaced = _has_moved(self._profile, self._recent, self._usual_change, min_share)
        return self._is_displaced


def _has_moved(profile: Float32s, recent: Float32s, usual: float, min_share: float) -> bool:
    """Whether `recent` is `profile` moved sideways: unshifted it fits far worse than usual, shifted it fits well."""
    size = len(profile)
    unshifted = float(np.abs(recent - profile).mean())
    if unshifted < 4 * usual + 1:
        return False
    smallest, best_shift = unshifted, 0
    for shift in range(-size // 2, size // 2 + 1):
        if shift < 0:
            moved, fixed = recent[:shift], profile[-shift:]
        else:
            moved, fixed = recent[shift:], profile[: size - shift]
        error = float(np.abs(moved - fixed).mean())
        if error < smallest:
            smallest, best_shift = error, shift
    return abs(best_shift) >= min_share * size and smallest < 0.35 * unshifted


def _columns(image: Gray) -> Gray:
    """(H, about COLUMNS) uint8, a copy: evenly spread columns."""
    step = max(1, image.shape[1] // COLUMNS)
    return np.ascontiguousarray(image[:, step // 2 :: step][:, :COLUMNS])


def _profile(sample: Gray) -> Float32s:
    """Mean gray of each column, less the mean of all."""
    means: Any = cv2.reduce(sample, 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F)[0]
    return np.asarray(means - means.mean(), np.float32)


def _traits(image: Gray, sample: Gray) -> _Traits:
    """image: (H, W) uint8.  sample: its `_columns`."""
    softness, near = _softness(_lines(image))
    if len(sample) < 2 * BLOCK_PX:
        return _Traits(softness, near, 0.0, 0.0, 0.0)
    jumps: Gray = np.asarray(cv2.absdiff(sample[1:], sample[:-1]), np.uint8)
    by_row: Float32s = np.asarray(cv2.reduce(jumps, 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F)[:, 0], np.float32)
    return _Traits(softness, near, _seam(by_row), _repeated(by_row, sample), _blocky(jumps, sample))


def _lines(image: Gray) -> Gray:
    """(about LINES, W) uint8, a copy: evenly spread rows."""
    return np.ascontiguousarray(image[:: max(1, image.shape[0] // LINES)])


def _softness(lines: Gray) -> tuple[float, float]:
    """Change to the next pixel over change to the fourth, and the change to the next pixel, gray levels."""
    near, far = _mean_change(lines, 1), _mean_change(lines, 4)
    return near / far if far > 0 else 1.0, near


def _mean_change(lines: Gray, distance_px: int) -> float:
    if lines.shape[1] <= distance_px:
        return 0.0
    change = cv2.norm(lines[:, distance_px:], lines[:, :-distance_px], cv2.NORM_L1)
    return float(change / (lines.shape[0] * (lines.shape[1] - distance_px)))


def _seam(by_row: Float32s) -> float:
    """The largest jump from row to row over the larger of its neighbours."""
    at = int(by_row[1:-1].argmax()) + 1
    jump = float(by_row[at])
    return 0.0 if jump < MIN_SEAM else jump / max(float(by_row[at - 1]), float(by_row[at + 1]), 0.5)


def _repeated(by_row: Float32s, sample: Gray) -> float:
    """Share of the rows in the longest run of rows that equal the row above; 0 if these rows show no texture."""
    if len(by_row) - cv2.countNonZero(by_row) < REPEATED / 4 * len(sample):
        return 0.0
    changed = np.flatnonzero(by_row)
    edges = np.concatenate(([-1], changed, [len(by_row)]))
    lengths = np.diff(edges) - 1
    longest = int(lengths.argmax())
    share = float(lengths[longest]) / len(sample)
    if share < REPEATED / 4:
        return 0.0
    return share if float(sample[int(edges[longest]) + 1].std()) > EVEN else 0.0


def _blocky(jumps: Gray, sample: Gray) -> float:
    """Share of blocks that are uniform and have a uniform neighbour of the same gray, neither black nor white."""
    rows = len(sample) // BLOCK_PX
    inner = jumps[: rows * BLOCK_PX - 1]
    some = inner[3::BLOCK_PX] | inner[7::BLOCK_PX] | inner[11::BLOCK_PX]
    if some.size - cv2.countNonZero(some) < BLOCKY / 4 * some.size:
        return 0.0  # three rows of each block show that there are none
    uniform = np.empty((rows, sample.shape[1]), np.bool_)
    largest = np.maximum.reduceat(inner, np.arange(0, len(inner), BLOCK_PX), axis=0)
    np.equal(largest, 0, out=uniform)
    if not uniform.any():
        return 0.0
    gray = sample[BLOCK_PX // 2 : rows * BLOCK_PX : BLOCK_PX]
    uniform &= (gray > 16) & (gray < 239)
    pairs = uniform[:, 1:] & uniform[:, :-1] & (gray[:, 1:] == gray[:, :-1])
    return float(pairs.mean()) if pairs.size else 0.0
