"""The anomaly model of a camera: what good surface looks like to the network, and the threshold of a defect.

`Collector` takes footage frame by frame and keeps only scores. `fit` leaves outliers out, fits the Gaussians of
`gaussian_fit`, and sets the threshold on surface that these were not fitted on. Neighbouring frames show the same
surface, so rates are counted in pieces that are long enough to be independent (`tail_model`).
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
from edge.calibration.focus_check import FocusCheck
from edge.calibration.footage import MAX_BAD, listed
from edge.calibration.gaussian_fit import Layout
from edge.calibration.motion_check import MotionCheck
from edge.calibration.tail_model import Tail
from edge.errors import CalibrationError, ImageError
from edge.frame import Bools, Box, Float32s, Float64s, Gray, Indices
from edge.model.classifier import Classifier
from edge.vision import drift, image_quality
from edge.vision.anomaly import AnomalyModel, views_of
from edge.vision.decision import defective
from edge.vision.inspector import Inspector
from edge.vision.learned_file import Model

MIN_TILES: Final = 20
MIN_FRAMES: Final = 20
"""Distinct frames that footage needs if most of it repeats."""
MAX_TILES: Final = 600_000
"""Kept in memory as scores: about 130 MB."""
FIRST_TILES: Final = 2000
"""Pictures of all tiles are kept up to this number; after that, those of the most anomalous tiles."""
MAX_PICTURES: Final = 400
MAX_FEATURES: Final = 40_000
"""Tiles whose features are kept for the drift reference."""
OUTLIER_FACTOR: Final = 1.5
"""An outlier is this many times further from the median than the largest of as many normally distributed scores. Good
surface of two mills and of the generated strip, which has slightly heavier tails, reached 0.6 to 0.85 of that limit."""
MAX_PLACES: Final = 12
"""Places with outliers."""
MAX_LEFT_OUT: Final = 0.2
"""Share of the frames."""
UNSURE_FACTOR: Final = 10.0
"""A tile is unsure above the threshold at which alarms would be this many times more frequent."""
MAX_UNSURE: Final = 0.01
"""Probability per piece."""
FAR: Final = 2.0
"""A threshold of more than this many times the largest score of good surface finds only gross defects."""
PER_HOUR: Final = "alarms an hour"
CONFIDENCE: Final = 0.95
"""Of the bound that the footage alone shows."""
DEFAULT_FPS: Final = 30.0


@dataclass(frozen=True, slots=True)
class AllowedAlarms:
    """The allowed false alarms, in one of two units.  per_tile: share of good tiles."""

    per_hour: float | None
    per_tile: float | None


@dataclass(frozen=True, slots=True)
class Pace:
    """fps: frames per second.  k, n: k of n frames confirm a defect; 1 of 1 where each frame counts alone."""

    fps: float
    k: int
    n: int


@dataclass(slots=True)
class TilePictures:
    """Pictures of tiles for the contact sheet: all of the first tiles, then the most anomalous ones."""

    tiles: dict[int, Gray] = field(default_factory=dict)
    score: Callable[[Float32s], Float32s] | None = None
    scores: dict[int, float] = field(default_factory=dict)

    def offer(self, first: int, cut: Gray, values: Float32s) -> None:
        """Keep pictures of the next tiles.  first: number of the first one.  cut: (N, side, side).  values: (N, D)."""
        if self.score is None:
            self.tiles |= {first + i: tile.copy() for i, tile in enumerate(cut)}
            return
        for i, score in enumerate(self.score(values).tolist()):
            if score > 0 and (len(self.tiles) < 2 * MAX_PICTURES or score > min(self.scores.values(), default=0.0)):
                self.tiles[first + i], self.scores[first + i] = cut[i].copy(), score
        if len(self.tiles) > 2 * MAX_PICTURES:
            self._thin()

    def rank_by(self, score: Callable[[Float32s], Float32s], values: Float32s) -> None:
        """Rank tiles by a first model of good surface from now on.  values: of all tiles so far."""
        self.score = score
        self.scores = dict(enumerate(score(values).tolist()))
        self._thin()

    def _thin(self) -> None:
        kept = sorted(self.scores, key=lambda i: -self.scores[i])[:MAX_PICTURES]
        self.scores = {i: self.scores[i] for i in kept}
        self.tiles = {i: self.tiles[i] for i in kept if i in self.tiles}


@dataclass(slots=True)
class Collector:
    """Collects the scores of good footage."""

    inspector: Inspector
    classifier: Classifier
    pictures: TilePictures = field(default_factory=TilePictures)
    labels: list[str] = field(default_factory=list)
    """Of the frames."""
    runs: list[int] = field(default_factory=list)
    """The unbroken run of each frame."""
    stats: list[image_quality.ImageStats] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    """Tiles of each frame."""
    bad: dict[str, int] = field(default_factory=dict)
    """Frames that show no surface, by reason."""
    called_defective: list[bool] = field(default_factory=list)
    """Whether the classes call a tile of the frame a defect, for each frame."""
    repeated: int = 0
    """Frames that are identical to an earlier one, as of a recording in a loop: left out."""
    features: dict[int, Float32s] = field(default_factory=dict)
    """Features of the tiles of some frames, evenly spread, for the drift reference."""
    layout: Layout | None = None
    picture: Gray | None = None
    """The last frame, and the boxes of its tiles."""
    boxes: tuple[Box, ...] = ()
    focus: FocusCheck = field(default_factory=FocusCheck)
    motion: MotionCheck = field(default_factory=MotionCheck)
    _parts: list[Float32s] = field(default_factory=list)
    _tiles: int = 0
    _stride: int = 1
    _featured: int = 0
    _hashes: set[int] = field(default_factory=set)
    _is_interrupted: bool = True
    """A bad image came after the last frame that was used."""

    def add(self, label: str, pixels: Gray, *, follows: bool) -> bool:
        """Score a frame.  follows: it is the neighbour in time of the frame before.

        Returns False when the memory is full.  Raises CalibrationError when the frame cannot be tiled or scored.
        """
        fault = image_quality.fault(pixels)
        if fault is not None:
            self.bad[fault] = self.bad.get(fault, 0) + 1
            self._is_interrupted = True
            return True
        try:
            prepared = self.inspector.prepare(pixels, follow=True)
        except ImageError as error:
            raise CalibrationError(f"{label}: {error}") from None
        cut, window = self.inspector.cut(prepared), prepared.window()
        digest = hash(window.tobytes())
        if digest in self._hashes:
            self.repeated += 1
            return True
        self._hashes.add(digest)
        scores = self.classifier.score(cut)
        views = views_of(scores)
        if self.layout is None:
            self.layout = Layout.of(views)
        values = np.concatenate(list(views.values()), 1)
        if not np.isfinite(values).all():
            raise CalibrationError(f"{label}: the model's scores are not finite numbers")
        if self.classifier.card.has_features:
            self._keep_features(len(self.labels), scores.features)
        probabilities = scores.probabilities(self.inspector.temperature)
        self.called_defective.append(bool(defective(probabilities, self.inspector.thresholds).any()))
        self.runs.append(self.runs[-1] + (not follows or self._is_interrupted) if self.runs else 0)
        self._is_interrupted = False
        self.picture, self.boxes = pixels.copy(), tuple(prepared.boxes())
        self.labels.append(label)
        self.stats.append(image_quality.image_stats(window))
        self.focus.add(window)
        self.motion.add(window)
        self.counts.append(len(cut))
        self._parts.append(values)
        self.pictures.offer(self._tiles, cut, values)
        self._tiles += len(cut)
        if self.pictures.score is None and self._tiles >= FIRST_TILES:
            so_far = self.values()
            self.pictures.rank_by(gaussian_fit.fitted(so_far, self.layout).score, so_far)
        return self._tiles < MAX_TILES

    def values(self) -> Float32s:
        """(N, D) float32: all views of all tiles."""
        return np.concatenate(self._parts)

    def _keep_features(self, frame: int, features: Float32s) -> None:
        """Keep every frame, then every second, every fourth...: bounded, and spread over all the footage."""
        if frame % self._stride == 0:
            self.features[frame] = features
            self._featured += len(features)
        if self._featured > MAX_FEATURES:
            self._stride *= 2
            self.features = {at: kept for at, kept in self.features.items() if at % self._stride == 0}
            self._featured = sum(map(len, self.features.values()))

    def check(self) -> None:
        """Raises CalibrationError when the footage cannot be used for a calibration."""
        seen = len(self.labels)
        bad = sum(self.bad.values())
        if bad > MAX_BAD * (seen + bad):
            reasons = listed(self.bad)
            raise CalibrationError(f"{bad} of {seen + bad} frames show no surface ({reasons}): check the camera first")
        if self.repeated > seen and seen < MIN_FRAMES:
            raise CalibrationError(
                f"{self.repeated} of {seen + self.repeated} frames repeat others: the strip must move, or "
                "the calibration knows one picture of it only"
            )
        self.motion.check()
        if self._tiles < MIN_TILES:
            raise CalibrationError(f"{self._tiles} tiles in {seen} frames: at least {MIN_TILES} are needed")
        if self.focus.is_soft:
            raise CalibrationError(
                "the picture is out of focus: small defects do not show in it. Focus and clean the lens, record again"
            )


@dataclass(frozen=True, slots=True)
class ShownTile:
    """A tile on the contact sheet.  frame: its number among the frames used, from 0.  picture: None if not kept."""

    frame: int
    label: str
    score: float
    left_out: bool
    picture: Gray | None


@dataclass(frozen=True, slots=True)
class Promise:
    """The false alarms that a threshold leads to: alarms per hour, or share of tiles.

    expected: on average.  low, high: its 90 % interval; equal to `expected` where it was counted and not extrapolated.
    shown: exact upper limit by the footage alone, whatever the tail, with 95 % confidence.
    """

    threshold: float
    exact: bool
    """Counted on the footage (conformal); False: extrapolated by the generalised Pareto tail."""
    expected: float
    low: float
    high: float
    shown: float


@dataclass(frozen=True, slots=True)
class Fit:
    """The calibrated anomaly model, and figures for the report and the pictures."""

    anomaly: AnomalyModel
    promise: Promise
    alone: Promise | None
    """The promise without confirmation over frames; None where each frame counts alone."""
    unit: str
    """Of `allowed_rate` and of a promise."""
    allowed_rate: float
    """The allowed false alarms."""
    frames: int
    tiles: int
    pieces: int
    """Independent pieces of surface."""
    piece_frames: int
    split: bool
    """Fitted on one half and counted on the other; False: cross-validated."""
    needed_hours: float | None
    """Hours of good footage without an alarm that would show the allowed rate."""
    needed_pieces: int
    left_out: tuple[int, ...]
    """Frames."""
    places: int
    """Stretches of neighbouring frames that were left out."""
    shown_tiles: tuple[ShownTile, ...]
    maxima: Float64s
    """Largest score of each piece, at which an alarm would be confirmed."""
    tail: Tail | None
    per_piece: float
    """`allowed_rate` as a probability per piece."""
    supported_rate: float | None
    """If the threshold is FAR beyond the footage: the rate whose threshold is not; else None."""
    kept: tuple[int, ...]
    """Frames that were used."""
    unsure: float
    """Share of the frames that would be unsure."""
    picture: Gray
    """The last frame."""
    boxes: tuple[Box, ...]
    """Of its tiles."""
    place_scores: Float32s
    """(T,) the largest score at the place of each box, over the frames used; NaN where there was none."""

    @property
    def allowed_text(self) -> str:
        """The allowed false alarms, as text."""
        return (
            "1 alarm an hour"
            if (self.allowed_rate, self.unit) == (1.0, PER_HOUR)
            else f"{self.allowed_rate:g} {self.unit}"
        )


def fit(collector: Collector, allowed: AllowedAlarms, pace: Pace, *, keep_all: bool = False) -> Fit:
    """Fit an anomaly model to the scores of good footage.  keep_all: outliers are not left out.

    Raises CalibrationError when the footage does not support one.
    """
    collector.check()
    values, layout, picture = collector.values(), collector.layout, collector.picture
    assert layout is not None
    assert picture is not None
    frame_of = np.repeat(np.arange(len(collector.counts)), collector.counts)
    runs = np.array(collector.runs, np.intp)
    robust = gaussian_fit.robust_scores(values, layout, frame_of)
    left_out = np.zeros(len(runs), np.bool_) if keep_all else _left_out(robust, frame_of, runs, pace)
    places = _places(left_out, runs)
    if places > MAX_PLACES or left_out.mean() > MAX_LEFT_OUT:
        raise CalibrationError(
            f"{_counted(places)} in {int(left_out.sum())} of {len(runs)} frames stand out: this is no good surface, or "
            "surface of several kinds. Look at the footage; if all of it is good, give --keep-all"
        )
    kept = ~left_out[frame_of]
    if kept.sum() < MIN_TILES:
        raise CalibrationError(f"{int(kept.sum())} good tiles are left, at least {MIN_TILES} are needed")
    of_kept = frame_of[kept]
    surface, scores, counted = gaussian_fit.scored(values[kept], layout, of_kept)
    owner, blocks = of_kept[counted], _runs_of(of_kept[counted], runs)
    counts = _Counts(scores[counted], owner, blocks, pace, allowed)
    promise, unsure_from = counts.promise(), counts.unsure_threshold()
    alone = None if pace.n == 1 else _Counts(scores[counted], owner, blocks, Pace(pace.fps, 1, 1), allowed).promise()
    card = collector.classifier.card
    anomaly = AnomalyModel(Model.of(card), surface, promise.threshold, min(promise.threshold, max(1e-3, unsure_from)))
    whole = np.full(len(frame_of), np.nan, np.float32)
    whole[kept] = scores
    whole[~kept] = robust[~kept]
    worst = np.maximum.reduceat(scores, np.flatnonzero(np.diff(of_kept, prepend=-1)))
    return Fit(
        anomaly=anomaly,
        promise=promise,
        alone=alone,
        unit=PER_HOUR if allowed.per_hour is not None else "of good tiles",
        allowed_rate=counts.allowed_rate,
        frames=len(runs),
        tiles=len(frame_of),
        pieces=len(counts.maxima),
        piece_frames=counts.length,
        split=bool((~counted).any()),
        needed_hours=None if allowed.per_hour is None else -math.log(1 - CONFIDENCE) / allowed.per_hour,
        needed_pieces=math.ceil(-math.log(1 - CONFIDENCE) / counts.per_piece),
        left_out=tuple(np.flatnonzero(left_out).tolist()),
        places=places,
        shown_tiles=_shown_tiles(collector, whole, frame_of, left_out),
        maxima=counts.maxima,
        tail=counts.tail,
        per_piece=counts.per_piece,
        supported_rate=counts.supported_rate(promise.threshold),
        kept=tuple(np.flatnonzero(~left_out).tolist()),
        unsure=float(((worst > anomaly.unsure_threshold) & (worst <= anomaly.threshold)).mean()),
        picture=picture,
        boxes=collector.boxes,
        place_scores=_place_scores(whole, kept, frame_of, np.array(collector.counts)),
    )


# ---- outliers ---------------------------------------------------------------------------------


def _left_out(scores: Float32s, frame_of: Indices, runs: Indices, pace: Pace) -> Bools:
    """(F,) frames with an outlier, and their neighbours, which may show a part of the same defect."""
    median, upper_quartile = (float(value) for value in np.quantile(scores, (0.5, 0.75)))
    sigma = max(upper_quartile - median, 0.02 * upper_quartile) / NormalDist().inv_cdf(0.75)
    limit = median + OUTLIER_FACTOR * sigma * NormalDist().inv_cdf(1 - 0.1 / len(scores))
    frames = np.zeros(len(runs), np.bool_)
    frames[frame_of[scores > limit]] = True
    if pace.n > 1 and frames.any():
        reach = pace.n + 2
        for frame in np.flatnonzero(frames):
            near = slice(max(0, frame - reach), frame + reach + 1)
            frames[near] |= runs[near] == runs[frame]
    return frames


def _places(left_out: Bools, runs: Indices) -> int:
    """Number of stretches of neighbouring frames that were left out."""
    at = np.flatnonzero(left_out)
    if len(at) == 0:
        return 0
    return 1 + int(((np.diff(at) > 1) | (np.diff(runs[at]) != 0)).sum())


def _counted(places: int) -> str:
    return "1 place" if places == 1 else f"{places} places"


def _runs_of(owner: Indices, runs: Indices) -> Indices:
    """The unbroken run of each counted frame."""
    frames = np.unique(owner)
    breaks = (np.diff(frames) > 1) | (np.diff(runs[frames]) != 0)
    return np.concatenate(([0], np.cumsum(breaks))).astype(np.intp)


# ---- rates ---------------------------------------------------------------------------------------


class _Counts:
    """Counts, over good surface, the scores that would be alarms."""

    def __init__(self, scores: Float32s, owner: Indices, runs: Indices, pace: Pace, allowed: AllowedAlarms) -> None:
        """scores: (N,) of tiles.  owner: (N,) their frames.  runs: of those frames."""
        frames, index = np.unique(owner, return_inverse=True)
        largest = np.full(len(frames), -np.inf)
        np.maximum.at(largest, index, scores)
        self._scores = np.asarray(scores, np.float64)
        is_hour = allowed.per_hour is not None
        needed = tail.confirmed(largest, runs, pace.k, pace.n) if is_hour else largest
        alone = len(np.unique(runs)) > len(runs) / 2
        self.length = 1 if alone else max(pace.n, min(tail.correlation_length(largest, runs), max(1, len(runs) // 20)))
        piece_of = tail.pieces_of(runs, self.length)
        maxima = np.full(int(piece_of[-1]) + 1, -np.inf)
        np.maximum.at(maxima, piece_of, needed)
        self.maxima: Float64s = maxima[np.isfinite(maxima)]
        self._tile_pieces = piece_of[index]
        if len(self.maxima) == 0:
            raise CalibrationError("no run of frames is long enough for a defect to be confirmed: give more, in order")
        self.tail = Tail.of(self.maxima) if len(self.maxima) >= 2 * tail.MIN_PEAKS else None
        if is_hour:
            assert allowed.per_hour is not None
            self.allowed_rate = allowed.per_hour
            self._unit = pace.fps * 3600 / self.length
        else:
            assert allowed.per_tile is not None
            self.allowed_rate = allowed.per_tile
            self._unit = self._peak_share()
        self._per_tile = not is_hour
        self.per_piece = min(0.5, self.allowed_rate / self._unit)

    def _peak_share(self) -> float:
        """Mean share of tiles that are peaks, in pieces that have any: converts a rate of pieces into one of tiles."""
        if self.tail is None:
            return 1.0
        peaks = self._scores > self.tail.above
        pieces, sizes = np.unique(self._tile_pieces, return_counts=True)
        in_piece = np.bincount(self._tile_pieces[peaks], minlength=int(pieces.max()) + 1)[pieces]
        return float((in_piece / sizes)[in_piece > 0].mean())

    def threshold(self, per_piece: float) -> tuple[float, bool]:
        """A threshold, and whether it was counted.  Raises CalibrationError for too little footage."""
        if self._per_tile:
            share = min(0.5, per_piece * self._unit)
            counted = tail.conformal_share(self._scores, self._tile_pieces, share)
        else:
            counted = tail.conformal(self.maxima, per_piece)
        if counted is not None:
            return counted, True
        if self.tail is None:
            raise CalibrationError(
                f"{len(self.maxima)} pieces of surface are too few to estimate such a rare alarm: "
                f"at least {2 * tail.MIN_PEAKS} are needed"
            )
        return self.tail.level(per_piece), False

    def promise(self) -> Promise:
        """The threshold for the allowed rate, and its false alarms."""
        threshold, exact = self.threshold(self.per_piece)
        above = int((self.maxima > threshold).sum())
        shown = min(1.0, upper(above, len(self.maxima), CONFIDENCE)) * self._unit
        if exact or self.tail is None:
            mean = self.allowed_rate
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

    def supported_rate(self, threshold: float) -> float | None:
        """The rate that the footage supports, where the allowed rate leads FAR beyond it; else None."""
        far = FAR * float(self.maxima.max())
        return None if self.tail is None or threshold <= far else self.tail.beyond(far).mean * self._unit

    def unsure_threshold(self) -> float:
        """The score above which a tile is unsure."""
        return self.threshold(max(self.per_piece, min(UNSURE_FACTOR * self.per_piece, MAX_UNSURE)))[0]


# ---- for people --------------------------------------------------------------------------------------


def _shown_tiles(collector: Collector, scores: Float32s, frame_of: Indices, left_out: Bools) -> tuple[ShownTile, ...]:
    """The most anomalous tiles: first those that were left out, then those that were kept."""
    order = np.lexsort((-scores, ~left_out[frame_of]))
    first = [i for i in order[:MAX_PICTURES] if left_out[frame_of[i]]]
    kept = np.argsort(np.where(left_out[frame_of], np.inf, -scores))[:24]
    return tuple(
        ShownTile(
            int(frame_of[i]),
            collector.labels[frame_of[i]],
            float(scores[i]),
            bool(left_out[frame_of[i]]),
            collector.pictures.tiles.get(int(i)),
        )
        for i in (*first[:48], *kept)
    )


def _place_scores(scores: Float32s, kept: Bools, frame_of: Indices, counts: Indices) -> Float32s:
    """The largest score by place in the frame, over the frames with as many tiles as the last one."""
    usable = kept & (counts[frame_of] == counts[-1])
    place = np.arange(len(scores)) - (np.cumsum(counts) - counts)[frame_of]
    found = np.full(counts[-1], np.nan, np.float32)
    np.fmax.at(found, place[usable], scores[usable])
    return found


def reference_of(collector: Collector, found: Fit, made: Any) -> Any:
    """What good frames look like, for the drift watch: `edge.config.camera_calibration.Reference`."""
    kept = set(found.kept)
    features = {frame: tiles for frame, tiles in collector.features.items() if frame in kept}
    known = drift.features_of(np.concatenate(list(features.values())), found.anomaly.model.sha256) if features else None
    distances = [drift.median_distance(tiles, known) for tiles in features.values()] if known is not None else []
    stats = [one for frame, one in enumerate(collector.stats) if frame in kept]
    return drift.reference(stats, made, distances=distances, features=known, unsure=round(found.unsure, 6))
