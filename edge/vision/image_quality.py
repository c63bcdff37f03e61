"""Is this a picture of a surface at all? Looked at before the network sees a pixel.

`fault` judges one picture alone. A `Watch` follows one camera and compares it with itself: what it looked like
when all was well is learned from its first good frames and slowly adapted. All of it works on 64 columns of the
picture, so that it costs a small part of what one tile costs the network.
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
"""Every seventh pixel each way is enough to see a covered lens, and odd so that it meets no regular pattern."""
DARK: Final = 6.0
BRIGHT: Final = 249.0
FLAT: Final = 0.5

COLUMNS: Final = 64
"""Columns looked at, evenly spread; every pixel of each, because faults of a decoder lie along rows."""
LINES: Final = 32
"""Rows looked at for sharpness, evenly spread."""
ENTER_FRAMES: Final = 3
LEAVE_FRAMES: Final = 3
"""Frames in a row that begin and end a bad time, so that one torn frame is no event."""
SLOW_FRAMES: Final = 8
"""Least frames for what only shows over time: frozen, blurred, shifted."""
LEARN_FRAMES: Final = 20
"""Good frames until a camera's own picture is known; nothing is compared before."""
ADAPT: Final = 1 / 2000
"""Share of each good frame in what is known: light and dirt change over hours, a knock does not."""
SOFT: Final = 0.305
"""Change to the next pixel over change to the fourth: a picture without any edge comes to 0.25. The softest of
4,000 good pictures of steel had 0.31 (see docs/decisions/005)."""
SOFT_CLEAR: Final = 1.1
"""A picture is sharp again when it is that much better than what made it blurred."""
FADED: Final = 0.5
"""Share of the usual change from pixel to pixel that a blurred picture does not reach."""
SEAM: Final = 5.0
"""Jump between two rows against the jumps beside it. Good pictures of steel reach 3.8."""
SEAM_LEAST: Final = 2.0
"""Gray levels: a jump that is smaller is hidden in the noise."""
OWN: Final = 2.0
"""Torn or corrupted is only what is this many times worse than the camera's own good pictures."""
REPEATED: Final = 0.1
"""Share of the rows that may be copies of the row above, in one piece. Decoders fill what they lost like that."""
BLOCKY: Final = 0.03
"""Share of the picture that may be even blocks of 16 rows between black and white."""
BLOCK_PX: Final = 16
EVEN: Final = 2.0
"""Standard deviation of a row, gray levels, up to which a copy of it means nothing."""
STRUCTURE: Final = 8.0
"""Standard deviation of the mean columns, gray levels: below it nothing in the picture stands still enough."""
SHIFT_EVERY: Final = 8
PROFILE_EVERY: Final = 8
"""Good frames of which one changes the known columns, once these are known."""


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """What a look at one frame came to.

    fault: why this frame cannot be judged.  began, ended: a bad time that began or ended with this frame.
    """

    fault: str | None = None
    began: str | None = None
    ended: str | None = None


WELL: Final = ImageCheck()


@dataclass(frozen=True, slots=True)
class ImageStats:
    """Two figures of one picture.

    brightness: mean gray.  sharpness: change to the next pixel over change to the fourth, 0.25 without any edge.
    """

    brightness: float
    sharpness: float


def sight(image: Gray) -> ImageStats:
    """The figures of one picture, as a `Watch` has them.  image: (H, W) uint8, what is inspected of the frame."""
    return ImageStats(float(cv2.mean(_columns(image))[0]), _softness(_lines(image))[0])


def fault(image: Gray) -> str | None:
    """Why this picture, taken alone, cannot be judged, or None.

    image: (H, W) uint8.  Black and saturated pictures are told by their mean; a picture without the least
    texture (standard deviation below half a grey level) comes from no sensor, whatever its brightness.
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
    """Bad times of one camera: they begin and end with a few frames in a row. Frames between are bad, too."""

    def __init__(self) -> None:
        self.reason: str | None = None
        """Of the bad time that lasts, or None."""
        self._candidate: str | None = None
        self._streak = 0

    def step(self, found: str | None) -> ImageCheck:
        """Take in one frame.  found: what is wrong with it."""
        if found == self.reason:
            self._candidate, self._streak = None, 0
            return WELL if found is None else ImageCheck(found)
        self._streak = self._streak + 1 if found == self._candidate or self._streak == 0 else 1
        self._candidate = found
        if self._streak < (LEAVE_FRAMES if found is None else ENTER_FRAMES):
            return ImageCheck(found or self.reason)
        ended, self.reason = self.reason, found
        self._candidate, self._streak = None, 0
        return ImageCheck(found, began=found, ended=ended if found is None else None)


class Watch:
    """Looks at every frame of one camera. Pure: the time is an argument."""

    def __init__(self, settings: config.ImageQuality, *, frozen: bool) -> None:
        """frozen: whether a picture that repeats exactly is a fault, as it is where a sensor has noise."""
        self._settings = settings
        self._frozen = frozen if settings.frozen is None else settings.frozen
        self._after_ns = int(settings.min_fault_s * NS_PER_S)
        self._episodes = Episodes()
        self._shape: tuple[int, ...] = ()
        self._last: Gray | None = None
        self._brightness = 0.0
        self._dim = False
        self._glare = False
        self._standing = _Lasting()
        self._softness = _Lasting()
        self._displaced = _Lasting()
        self._own = _Own()
        self.sight: ImageStats | None = None
        """Of the last picture that was looked at closely."""

    @property
    def reason(self) -> str | None:
        """Of the bad time that lasts, or None."""
        return self._episodes.reason

    def step(self, image: Gray, now_ns: int) -> ImageCheck:
        """Look at the next frame, also when nobody will inspect it.  image: (H, W) uint8, not kept."""
        return self.tell(self._found(image, now_ns) if self._settings.enabled else None)

    def tell(self, found: str | None) -> ImageCheck:
        """The same for a frame that is known to be bad without a look."""
        return self._episodes.step(found)

    def _found(self, image: Gray, now_ns: int) -> str | None:
        if image.shape != self._shape:
            self._shape, self._last, self._own = image.shape, None, _Own()
            self._standing, self._softness, self._displaced = _Lasting(), _Lasting(), _Lasting()
        sample = _columns(image)
        stands = self._stands_still(sample, now_ns)
        found = self._lightless(sample)
        if found is not None:
            return found
        if stands:
            return "frozen"
        traits = _traits(image, sample)
        self.sight = ImageStats(self._brightness, traits.softness)
        found = self._damaged(traits)
        if found is not None:
            return found
        found = self._displeased(traits, sample, now_ns)
        if found is None and self._softness.count == 0 and self._displaced.count == 0:
            self._own.learn(traits, sample)
        return found

    def _stands_still(self, sample: Gray, now_ns: int) -> bool:
        if not self._frozen:
            return False
        same = self._last is not None and np.array_equal(self._last, sample)
        self._last = sample
        return self._standing.step(holds=same, now_ns=now_ns, after_ns=self._after_ns)

    def _lightless(self, sample: Gray) -> str | None:
        """Dark, saturated or blank.  What is dark stays so until it is clearly brighter."""
        mean, spread = (float(value[0, 0]) for value in cv2.meanStdDev(sample))
        settings = self._settings
        self._brightness = mean
        self._dim = mean < settings.dark * (1.25 if self._dim else 1.0)
        self._glare = mean > (settings.bright - 2.0 if self._glare else settings.bright)
        if self._dim:
            return "dark"
        if self._glare:
            return "saturated"
        return "blank" if spread < FLAT else None

    def _damaged(self, traits: _Traits) -> str | None:
        own = self._own
        if not self._settings.damage or not own.known:
            return None
        if traits.seam > max(SEAM, OWN * own.seam):
            return "torn"
        if traits.repeated > max(REPEATED, OWN * own.repeated) or traits.blocky > max(BLOCKY, OWN * own.blocky):
            return "corrupted"
        return None

    def _displeased(self, traits: _Traits, sample: Gray, now_ns: int) -> str | None:
        """Blurred or shifted against the camera's own picture, for long enough."""
        own, settings = self._own, self._settings
        if not own.known:
            return None
        limit = min(SOFT, settings.focus * own.softness) * (SOFT_CLEAR if self._softness.holds else 1.0)
        soft = traits.softness < limit and traits.change < FADED * own.change
        if self._softness.step(holds=soft, now_ns=now_ns, after_ns=self._after_ns):
            return "blurred"
        displaced = settings.shift > 0 and own.displaced(sample, settings.shift)
        if self._displaced.step(holds=displaced, now_ns=now_ns, after_ns=self._after_ns):
            return "shifted"
        return None


@dataclass(slots=True)
class _Lasting:
    """Whether something has held for some frames and some time."""

    count: int = 0
    since_ns: int = 0
    holds: bool = False

    def step(self, *, holds: bool, now_ns: int, after_ns: int) -> bool:
        if not holds:
            self.count, self.holds = 0, False
            return False
        if self.count == 0:
            self.since_ns = now_ns
        self.count += 1
        self.holds = self.holds or (self.count >= SLOW_FRAMES and now_ns - self.since_ns >= after_ns)
        return self.holds


@dataclass(frozen=True, slots=True)
class _Traits:
    """Numbers of one picture.

    softness: change to the next pixel over change to the fourth.  change: to the next pixel, gray.
    seam: largest jump between two rows against its neighbours.  repeated: share of the rows in the longest run
    of copies.  blocky: share of even blocks.
    """

    softness: float
    change: float
    seam: float
    repeated: float
    blocky: float


class _Own:
    """What a camera's pictures are like when all is well."""

    def __init__(self) -> None:
        self.frames = 0
        self.softness = self.change = 0.0
        self.seam = self.repeated = self.blocky = 0.0
        self._profile: Float32s | None = None
        self._recent: Float32s | None = None
        self._usual = 0.0
        self._verdict = False
        self._turn = 0
        self._structured = False

    @property
    def known(self) -> bool:
        return self.frames >= LEARN_FRAMES

    def learn(self, traits: _Traits, sample: Gray) -> None:
        """Take in one good frame: the mean of the first ones, then slowly."""
        self.frames += 1
        share = max(ADAPT, 1 / self.frames)
        self.softness += share * (traits.softness - self.softness)
        self.change += share * (traits.change - self.change)
        # The worst that was still good, which is forgotten slowly.
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
        self._usual += share * (float(np.abs(profile - self._profile).mean()) - self._usual)
        self._profile += np.float32(share) * (profile - self._profile)
        self._structured = float(self._profile.std()) >= STRUCTURE

    def displaced(self, sample: Gray, least: float) -> bool:
        """Whether what stands still in the picture has moved sideways by `least` of the width or more.

        Looked at now and then: the last finding holds in between.
        """
        if not self._structured or self._profile is None or self._recent is None:
            return False
        self._recent += np.float32(0.2) * (_profile(sample) - self._recent)
        self._turn += 1
        if self._turn % SHIFT_EVERY == 0:
            self._verdict = _has_moved(self._profile, self._recent, self._usual, least)
        return self._verdict


def _has_moved(profile: Float32s, recent: Float32s, usual: float, least: float) -> bool:
    """Whether `recent` is `profile` moved aside: far worse where it is than usual, and good elsewhere."""
    size = len(profile)
    here = float(np.abs(recent - profile).mean())
    if here < 4 * usual + 1:
        return False
    nearest, by = here, 0
    for shift in range(-size // 2, size // 2 + 1):
        if shift < 0:
            moved, fixed = recent[:shift], profile[-shift:]
        else:
            moved, fixed = recent[shift:], profile[: size - shift]
        error = float(np.abs(moved - fixed).mean())
        if error < nearest:
            nearest, by = error, shift
    return abs(by) >= least * size and nearest < 0.35 * here


def _columns(image: Gray) -> Gray:
    """(H, about COLUMNS) uint8, a copy: evenly spread columns."""
    step = max(1, image.shape[1] // COLUMNS)
    return np.ascontiguousarray(image[:, step // 2 :: step][:, :COLUMNS])


def _profile(sample: Gray) -> Float32s:
    """Mean gray of each column, without the brightness of the whole."""
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
    """Change to the next pixel over change to the fourth, and the former, gray."""
    near, far = _mean_change(lines, 1), _mean_change(lines, 4)
    return near / far if far > 0 else 1.0, near


def _mean_change(lines: Gray, distance_px: int) -> float:
    if lines.shape[1] <= distance_px:
        return 0.0
    change = cv2.norm(lines[:, distance_px:], lines[:, :-distance_px], cv2.NORM_L1)
    return float(change / (lines.shape[0] * (lines.shape[1] - distance_px)))


def _seam(by_row: Float32s) -> float:
    """The largest jump from row to row against the larger of its neighbours."""
    at = int(by_row[1:-1].argmax()) + 1
    jump = float(by_row[at])
    return 0.0 if jump < SEAM_LEAST else jump / max(float(by_row[at - 1]), float(by_row[at + 1]), 0.5)


def _repeated(by_row: Float32s, sample: Gray) -> float:
    """Share of the rows in the longest run of rows that equal the one above them, where these show anything."""
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
    """Share of blocks that are even and have an even neighbour of the same gray, neither black nor white."""
    rows = len(sample) // BLOCK_PX
    inner = jumps[: rows * BLOCK_PX - 1]
    some = inner[3::BLOCK_PX] | inner[7::BLOCK_PX] | inner[11::BLOCK_PX]
    if some.size - cv2.countNonZero(some) < BLOCKY / 4 * some.size:
        return 0.0  # three rows of each block are enough to see that there are none
    still = np.empty((rows, sample.shape[1]), np.bool_)
    largest = np.maximum.reduceat(inner, np.arange(0, len(inner), BLOCK_PX), axis=0)
    np.equal(largest, 0, out=still)
    if not still.any():
        return 0.0
    gray = sample[BLOCK_PX // 2 : rows * BLOCK_PX : BLOCK_PX]
    still &= (gray > 16) & (gray < 239)
    pairs = still[:, 1:] & still[:, :-1] & (gray[:, 1:] == gray[:, :-1])
    return float(pairs.mean()) if pairs.size else 0.0
