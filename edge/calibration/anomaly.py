"""What good surface looks like to the model that decides, and from where on a tile is not that.

`Collected` takes footage in frame by frame and keeps only scores. `fit` leaves out what stands out from it, makes
`edge.calibration.gaussian_fit`, and sets the threshold on surface that these were not made of. Neighbouring frames
show the same surface, so rates are counted in pieces that are long enough to be independent (`tail_model`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from edge.calibration import gaussian_fit
from edge.calibration import tail_model as tail
from edge.calibration.binomial import upper
from edge.calibration.focus_check import Focus
from edge.calibration.footage import MAX_BAD, listed
from edge.calibration.gaussian_fit import Layout
from edge.calibration.motion_check import Stillness
from edge.calibration.tail_model import Tail
from edge.errors import CalibrationError, ImageError
from edge.frame import Bools, Box, Float32s, Float64s, Gray, Indices
from edge.model.classifier import Classifier
from edge.vision import drift, image_quality
from edge.vision.anomaly import AnomalyModel, Model, views_of
from edge.vision.inspector import Inspector

MIN_TILES: Final = 20
MIN_FRAMES: Final = 20
"""Of footage most of which repeats."""
MAX_TILES: Final = 600_000
"""Held in memory as scores: about 130 MB."""
FIRST_TILES: Final = 2000
"""All are kept as pictures until so many are there; then those that look strangest by them."""
MAX_PICTURES: Final = 400
MAX_FEATURES: Final = 40_000
"""Tiles whose features are kept for the watch over drift."""
OFF: Final = 1.5
"""A tile stands out from so many times as far from the middle as the farthest of so many normal scores. Good surface of
two mills and of the generated strip, which is a little wider than that, reached 0.6 to 0.85 of it."""
MAX_PLACES: Final = 12
MAX_LEFT_OUT: Final = 0.2
DOUBT: Final = 10.0
"""A tile is unsure where alarms would come so many times as often as was asked."""
MAX_DOUBT: Final = 0.01
FAR: Final = 2.0
"""Times the largest score of good surface: a threshold beyond that finds gross defects only."""
PER_HOUR: Final = "alarms an hour"
SURE: Final = 0.95
"""Of the bounds that are promised."""
DEFAULT_FPS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for: one of the two.  per_tile: share of good tiles that may be called a defect."""

    per_hour: float | None
    per_tile: float | None


@dataclass(frozen=True, slots=True)
class Pace:
    """fps: frames in a second on the line.  k, n: frames that confirm a defect; 1 of 1 where each is alone."""

    fps: float
    k: int
    n: int


@dataclass(slots=True)
class Album:
    """Pictures of the tiles that may be asked for: all of the first ones, then the strangest."""

    tiles: dict[int, Gray] = field(default_factory=dict)
    score: Callable[[Float32s], Float32s] | None = None
    scores: dict[int, float] = field(default_factory=dict)

    def offer(self, first: int, cut: Gray, values: Float32s) -> None:
        if self.score is None:
            self.tiles |= {first + i: tile.copy() for i, tile in enumerate(cut)}
            return
        for i, score in enumerate(self.score(values).tolist()):
            if score > 0 and (len(self.tiles) < 2 * MAX_PICTURES or score > min(self.scores.values(), default=0.0)):
                self.tiles[first + i], self.scores[first + i] = cut[i].copy(), score
        if len(self.tiles) > 2 * MAX_PICTURES:
            self._thin()

    def settle(self, score: Callable[[Float32s], Float32s], values: Float32s) -> None:
        """From here on by a first idea of good surface.  values: of all tiles until now."""
        self.score = score
        self.scores = dict(enumerate(score(values).tolist()))
        self._thin()

    def _thin(self) -> None:
        kept = sorted(self.scores, key=lambda i: -self.scores[i])[:MAX_PICTURES]
        self.scores = {i: self.scores[i] for i in kept}
        self.tiles = {i: self.tiles[i] for i in kept if i in self.tiles}


@dataclass(slots=True)
class Collected:
    """Scores of good footage.  Raises CalibrationError where a frame cannot be used at all."""

    inspector: Inspector
    classifier: Classifier
    album: Album = field(default_factory=Album)
    labels: list[str] = field(default_factory=list)
    """Of the frames."""
    runs: list[int] = field(default_factory=list)
    sights: list[image_quality.ImageStats] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    """Tiles of each frame."""
    bad: dict[str, int] = field(default_factory=dict)
    """Frames that show no surface, by reason."""
    repeated: int = 0
    """Frames that had come before, to the last bit: a recording in a loop, a camera that stands still. Left out."""
    features: dict[int, Float32s] = field(default_factory=dict)
    """Of the tiles of some frames, evenly spread, for the watch over drift."""
    layout: Layout | None = None
    picture: Gray | None = None
    """The last frame, and where its tiles lie."""
    boxes: tuple[Box, ...] = ()
    focus: Focus = field(default_factory=Focus)
    stillness: Stillness = field(default_factory=Stillness)
    _parts: list[Float32s] = field(default_factory=list)
    _tiles: int = 0
    _stride: int = 1
    _featured: int = 0
    _known: set[int] = field(default_factory=set)
    _broken: bool = True

    def see(self, label: str, pixels: Gray, *, follows: bool) -> bool:
        """Take in a frame; False when no more of them can be held.  follows: on the one before, in time."""
        fault = image_quality.fault(pixels)
        if fault is not None:
            self.bad[fault] = self.bad.get(fault, 0) + 1
            self._broken = True
            return True
        try:
            prepared = self.inspector.prepare(pixels, follow=True)
        except ImageError as error:
            raise CalibrationError(f"{label}: {error}") from None
        cut, window = self.inspector.cut(prepared), prepared.window()
        mark = hash(window.tobytes())
        if mark in self._known:
            self.repeated += 1
            return True
        self._known.add(mark)
        scores = self.classifier.score(cut)
        views = views_of(scores)
        if self.layout is None:
            self.layout = Layout.of(views)
        values = np.concatenate(list(views.values()), 1)
        if not np.isfinite(values).all():
            raise CalibrationError(f"{label}: the model's scores are no numbers")
        self._keep(len(self.labels), scores.features)
        self.runs.append(self.runs[-1] + (not follows or self._broken) if self.runs else 0)
        self._broken = False
        self.picture, self.boxes = pixels.copy(), tuple(prepared.boxes())
        self.labels.append(label)
        self.sights.append(image_quality.sight(window))
        self.focus.see(window)
        self.stillness.see(window)
        self.counts.append(len(cut))
        self._parts.append(values)
        self.album.offer(self._tiles, cut, values)
        self._tiles += len(cut)
        if self.album.score is None and self._tiles >= FIRST_TILES:
            so_far = self.values()
            self.album.settle(gaussian_fit.fitted(so_far, self.layout).score, so_far)
        return self._tiles < MAX_TILES

    def values(self) -> Float32s:
        """(N, D): all views of all tiles."""
        return np.concatenate(self._parts)

    def _keep(self, frame: int, features: Float32s) -> None:
        """Of every frame, then of every second, every fourth...: bounded, and spread over all of the footage."""
        if frame % self._stride == 0:
            self.features[frame] = features
            self._featured += len(features)
        if self._featured > MAX_FEATURES:
            self._stride *= 2
            self.features = {at: kept for at, kept in self.features.items() if at % self._stride == 0}
            self._featured = sum(map(len, self.features.values()))

    def check(self) -> None:
        """Raises CalibrationError when this is no footage to learn from."""
        seen = len(self.labels)
        bad = sum(self.bad.values())
        if bad > MAX_BAD * (seen + bad):
            reasons = listed(self.bad)
            raise CalibrationError(
                f"{bad} of {seen + bad} frames show no surface ({reasons}): look at the camera first"
            )
        if self.repeated > seen and seen < MIN_FRAMES:
            raise CalibrationError(
                f"{self.repeated} of {seen + self.repeated} frames repeat others: the strip must move, or only one "
                "picture of it is learned"
            )
        self.stillness.check()
        if self._tiles < MIN_TILES:
            raise CalibrationError(f"{self._tiles} tiles in {seen} frames: at least {MIN_TILES} are needed")
        if self.focus.is_soft:
            raise CalibrationError(
                "the picture is out of focus: small flaws do not show in it. Focus the lens, clean it, and record anew"
            )


@dataclass(frozen=True, slots=True)
class Odd:
    """A tile, for the contact sheet.  frame: counts from 0 over the frames used.  picture: None where none was kept."""

    frame: int
    label: str
    score: float
    left_out: bool
    picture: Gray | None


@dataclass(frozen=True, slots=True)
class Promise:
    """What a threshold means, in the unit that was asked for: alarms in an hour, or share of tiles.

    expected: on average.  low, high: 90 % interval of that; equal to `expected` where it was counted and not inferred.
    shown: the most that this footage leaves possible, exact, with 95 % confidence, whatever the tail.
    """

    threshold: float
    exact: bool
    """Counted on the footage (conformal); False: carried beyond it by the generalised Pareto tail."""
    expected: float
    low: float
    high: float
    shown: float


@dataclass(frozen=True, slots=True)
class Fit:
    """What `fit` found."""

    anomaly: AnomalyModel
    promise: Promise
    alone: Promise | None
    """The same without confirmation over frames; None where each frame is alone."""
    unit: str
    asked: float
    frames: int
    tiles: int
    pieces: int
    """Independent of each other, for the count."""
    piece_frames: int
    split: bool
    """Fitted on one half and counted on the other; False: in turns."""
    needed_hours: float | None
    """Of good footage without any alarm that would show what was asked."""
    needed_pieces: int
    left_out: tuple[int, ...]
    """Frames."""
    places: int
    odd: tuple[Odd, ...]
    maxima: Float64s
    """Largest score in each piece, as an alarm needs it."""
    tail: Tail | None
    per_piece: float
    """`asked` as a probability per piece."""
    carried: float | None
    """The rate that would bring a threshold FAR beyond all that was seen back to there; None where it is not."""
    kept: tuple[int, ...]
    """Frames that were used."""
    unsure: float
    picture: Gray
    """The last frame."""
    boxes: tuple[Box, ...]
    """Of its tiles."""
    hot: Float32s
    """(T,) the largest score that was kept at each of these places; NaN where there was none."""

    @property
    def wish(self) -> str:
        """What was asked for, in words."""
        return "1 alarm an hour" if (self.asked, self.unit) == (1.0, PER_HOUR) else f"{self.asked:g} {self.unit}"


def fit(seen: Collected, wanted: Wanted, pace: Pace, *, keep_all: bool = False) -> Fit:
    """From scores of good footage to a calibration.  keep_all: nothing that stands out is left out.

    Raises CalibrationError when the footage does not support one.
    """
    seen.check()
    values, layout, picture = seen.values(), seen.layout, seen.picture
    assert layout is not None
    assert picture is not None
    frame_of = np.repeat(np.arange(len(seen.counts)), seen.counts)
    runs = np.array(seen.runs, np.intp)
    strange = gaussian_fit.strange(values, layout, frame_of)
    left_out = np.zeros(len(runs), np.bool_) if keep_all else _left_out(strange, frame_of, runs, pace)
    places = _places(left_out, runs)
    if places > MAX_PLACES or left_out.mean() > MAX_LEFT_OUT:
        raise CalibrationError(
            f"{_counted(places)} in {int(left_out.sum())} of {len(runs)} frames stand out: this is no good surface, or "
            "it is of several kinds. Look at the footage; if all of it is good, give --keep-all"
        )
    kept = ~left_out[frame_of]
    if kept.sum() < MIN_TILES:
        raise CalibrationError(f"{int(kept.sum())} good tiles are left, at least {MIN_TILES} are needed")
    of_kept = frame_of[kept]
    surface, scores, counted = gaussian_fit.scored(values[kept], layout, of_kept)
    owner, blocks = of_kept[counted], _runs_of(of_kept[counted], runs)
    counts = _Counts(scores[counted], owner, blocks, pace, wanted)
    promise, doubt = counts.promise(), counts.doubt()
    alone = None if pace.n == 1 else _Counts(scores[counted], owner, blocks, Pace(pace.fps, 1, 1), wanted).promise()
    card = seen.classifier.card
    known = AnomalyModel(Model.of(card), surface, promise.threshold, min(promise.threshold, max(1e-3, doubt)))
    whole = np.full(len(frame_of), np.nan, np.float32)
    whole[kept] = scores
    whole[~kept] = strange[~kept]
    worst = np.maximum.reduceat(scores, np.flatnonzero(np.diff(of_kept, prepend=-1)))
    return Fit(
        anomaly=known,
        promise=promise,
        alone=alone,
        unit=PER_HOUR if wanted.per_hour is not None else "of good tiles",
        asked=counts.asked,
        frames=len(runs),
        tiles=len(frame_of),
        pieces=len(counts.maxima),
        piece_frames=counts.length,
        split=bool((~counted).any()),
        needed_hours=None if wanted.per_hour is None else -math.log(1 - SURE) / wanted.per_hour,
        needed_pieces=math.ceil(-math.log(1 - SURE) / counts.per_piece),
        left_out=tuple(np.flatnonzero(left_out).tolist()),
        places=places,
        odd=_odd(seen, whole, frame_of, left_out),
        maxima=counts.maxima,
        tail=counts.tail,
        per_piece=counts.per_piece,
        carried=counts.carried(promise.threshold),
        kept=tuple(np.flatnonzero(~left_out).tolist()),
        unsure=float(((worst > known.doubt) & (worst <= known.threshold)).mean()),
        picture=picture,
        boxes=seen.boxes,
        hot=_hot(whole, kept, frame_of, np.array(seen.counts)),
    )


# ---- what stands out ---------------------------------------------------------------------------------


def _left_out(scores: Float32s, frame_of: Indices, runs: Indices, pace: Pace) -> Bools:
    """(F,) frames with a tile far beyond the others, and their neighbours, which may show a part of the same."""
    middle, quarter = (float(value) for value in np.quantile(scores, (0.5, 0.75)))
    sigma = max(quarter - middle, 0.02 * quarter) / NormalDist().inv_cdf(0.75)
    limit = middle + OFF * sigma * NormalDist().inv_cdf(1 - 0.1 / len(scores))
    frames = np.zeros(len(runs), np.bool_)
    frames[frame_of[scores > limit]] = True
    if pace.n > 1 and frames.any():
        reach = pace.n + 2
        for frame in np.flatnonzero(frames):
            near = slice(max(0, frame - reach), frame + reach + 1)
            frames[near] |= runs[near] == runs[frame]
    return frames


def _places(left_out: Bools, runs: Indices) -> int:
    """Stretches of neighbouring frames that were left out."""
    at = np.flatnonzero(left_out)
    if len(at) == 0:
        return 0
    return 1 + int(((np.diff(at) > 1) | (np.diff(runs[at]) != 0)).sum())


def _counted(places: int) -> str:
    return "1 place" if places == 1 else f"{places} places"


def _runs_of(owner: Indices, runs: Indices) -> Indices:
    """For each frame that is counted, which unbroken run of such frames it is in."""
    frames = np.unique(owner)
    breaks = (np.diff(frames) > 1) | (np.diff(runs[frames]) != 0)
    return np.concatenate(([0], np.cumsum(breaks))).astype(np.intp)


# ---- how often ---------------------------------------------------------------------------------------


class _Counts:
    """Scores of good surface as counts of what would be an alarm."""

    def __init__(self, scores: Float32s, owner: Indices, runs: Indices, pace: Pace, wanted: Wanted) -> None:
        """scores, owner: (N,) of tiles and the frames they are in.  runs: of those frames."""
        frames, index = np.unique(owner, return_inverse=True)
        largest = np.full(len(frames), -np.inf)
        np.maximum.at(largest, index, scores)
        self._scores = np.asarray(scores, np.float64)
        is_hour = wanted.per_hour is not None
        held = tail.confirmed(largest, runs, pace.k, pace.n) if is_hour else largest
        alone = len(np.unique(runs)) > len(runs) / 2
        self.length = 1 if alone else max(pace.n, min(tail.memory(largest, runs), max(1, len(runs) // 20)))
        piece_of = tail.pieces_of(runs, self.length)
        maxima = np.full(int(piece_of[-1]) + 1, -np.inf)
        np.maximum.at(maxima, piece_of, held)
        self.maxima: Float64s = maxima[np.isfinite(maxima)]
        self._tile_pieces = piece_of[index]
        if len(self.maxima) == 0:
            raise CalibrationError("no run of frames is long enough for a defect to be confirmed: give more, in order")
        self.tail = Tail.of(self.maxima) if len(self.maxima) >= 2 * tail.MIN_PEAKS else None
        if is_hour:
            assert wanted.per_hour is not None
            self.asked = wanted.per_hour
            self._unit = pace.fps * 3600 / self.length
        else:
            assert wanted.per_tile is not None
            self.asked = wanted.per_tile
            self._unit = self._crowd()
        self._per_tile = not is_hour
        self.per_piece = min(0.5, self.asked / self._unit)

    def _crowd(self) -> float:
        """Of a piece that has a peak, the share of the tiles that are one: turns pieces into tiles."""
        if self.tail is None:
            return 1.0
        peaks = self._scores > self.tail.above
        pieces, sizes = np.unique(self._tile_pieces, return_counts=True)
        mine = np.bincount(self._tile_pieces[peaks], minlength=int(pieces.max()) + 1)[pieces]
        return float((mine / sizes)[mine > 0].mean())

    def level(self, per_piece: float) -> tuple[float, bool]:
        """A threshold and whether it was counted.  Raises CalibrationError for too little footage."""
        if self._per_tile:
            share = min(0.5, per_piece * self._unit)
            counted = tail.conformal_share(self._scores, self._tile_pieces, share)
        else:
            counted = tail.conformal(self.maxima, per_piece)
        if counted is not None:
            return counted, True
        if self.tail is None:
            raise CalibrationError(
                f"{len(self.maxima)} pieces of surface are too few to say anything of so rare an alarm: "
                f"at least {2 * tail.MIN_PEAKS} are needed"
            )
        return self.tail.level(per_piece), False

    def promise(self) -> Promise:
        threshold, exact = self.level(self.per_piece)
        above = int((self.maxima > threshold).sum())
        shown = min(1.0, upper(above, len(self.maxima), SURE)) * self._unit
        if exact or self.tail is None:
            mean = self.asked
            return Promise(threshold, exact, mean, mean, mean, shown)
        estimate = self.tail.beyond(threshold)
        return Promise(
            threshold,
            exact,
            estimate.mean * self._unit,
            estimate.low * self._unit,
            estimate.high * self._unit,
            shown,
        )

    def carried(self, threshold: float) -> float | None:
        """What this footage carries, in the unit asked for, when what was asked leads too far beyond it."""
        far = FAR * float(self.maxima.max())
        return None if self.tail is None or threshold <= far else self.tail.beyond(far).mean * self._unit

    def doubt(self) -> float:
        return self.level(max(self.per_piece, min(DOUBT * self.per_piece, MAX_DOUBT)))[0]

    def curve(self, levels: Float64s) -> Float64s:
        """How often pieces were above each level, in the unit asked for."""
        return np.asarray([(self.maxima > level).mean() for level in levels]) * self._unit


# ---- for people --------------------------------------------------------------------------------------


def _odd(seen: Collected, scores: Float32s, frame_of: Indices, left_out: Bools) -> tuple[Odd, ...]:
    """The strangest tiles: those that were left out first, then those that were kept."""
    order = np.lexsort((-scores, ~left_out[frame_of]))
    first = [i for i in order[:MAX_PICTURES] if left_out[frame_of[i]]]
    kept = np.argsort(np.where(left_out[frame_of], np.inf, -scores))[:24]
    return tuple(
        Odd(
            int(frame_of[i]),
            seen.labels[frame_of[i]],
            float(scores[i]),
            bool(left_out[frame_of[i]]),
            seen.album.tiles.get(int(i)),
        )
        for i in (*first[:48], *kept)
    )


def _hot(scores: Float32s, kept: Bools, frame_of: Indices, counts: Indices) -> Float32s:
    """By place in the frame, over all frames of as many tiles as the last has."""
    usable = kept & (counts[frame_of] == counts[-1])
    place = np.arange(len(scores)) - (np.cumsum(counts) - counts)[frame_of]
    found = np.full(counts[-1], np.nan, np.float32)
    np.fmax.at(found, place[usable], scores[usable])
    return found


def reference_of(seen: Collected, found: Fit, made: Any) -> Any:
    """What good frames look like, for the watch over drift: `edge.config.calibration.Reference`."""
    kept = set(found.kept)
    features = {frame: tiles for frame, tiles in seen.features.items() if frame in kept}
    known = drift.features_of(np.concatenate(list(features.values())), found.anomaly.model.sha256)
    distances = [drift.median_distance(tiles, known) for tiles in features.values()]
    sights = [sight for f, sight in enumerate(seen.sights) if f in kept]
    return drift.reference(sights, made, distances=distances, features=known, unsure=round(found.unsure, 6))
