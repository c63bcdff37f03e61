"""Teach classes from a few labelled tiles: a ridge regression on the outputs of the network, in closed form.

The regression explains what the network's own probabilities leave open: where a taught name is one of its own classes
and these are right, nothing has to be learned. Whether they are used for the taught names, and how much the weights
may grow, is chosen by leaving out one picture at a time; all reported figures come from there, too. Tiles of the
training that the card remembers hold the other classes and good surface in place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2
from typing import Final

import numpy as np

from edge.calibration import binomial
from edge.config.calibration import TaughtClass
from edge.errors import CalibrationError
from edge.frame import Float64s, Indices
from edge.model.bundle import ModelCard
from edge.model.classifier import Scores
from edge.model.surface import Memory
from edge.vision.learned_file import Model
from edge.vision.taught_classes import GOOD, TaughtClasses, every_probability

MIN_PICTURES: Final = 2
"""Of a class: one is left out at a time."""
RIDGES: Final = (*(10.0**e for e in np.arange(-3.0, 2.1, 0.5)), np.inf)
"""Infinite: the network's own probabilities alone."""
ACTIVATION_WEIGHT: Final = 2.0
"""Of a maximum activation against a feature: there are four times as many of these, and they say less."""
GAINS: Final = np.geomspace(0.5, 60.0, 120)
ENOUGH: Final = 0.9
"""Recall of a class from which no more pictures are asked for."""
MAX_ASKED: Final = 50
"""Pictures of a class: more than this is no advice."""
MIN_COMPARED: Final = 8
"""Tiles of two classes that were called one of the two: with fewer, chance says nothing."""
CHANCE: Final = 0.55
DRAWS: Final = 8
"""Halves of the pictures, for the learning curve."""
SAMPLES: Final = 4000

Counts = dict[str, int]


@dataclass(frozen=True, slots=True)
class Lesson:
    """Labelled tiles.  scores: of N tiles.  labels: N class names, or `good`.  pictures: (N,) which tiles stand and
    fall together, because they show one picture or one defect.
    """

    scores: Scores
    labels: tuple[str, ...]
    pictures: Indices


@dataclass(frozen=True, slots=True)
class Taught:
    """The result.  points: by class, measured on pictures that were left out.  macro: mean of their recalls.

    confusion: (taught, columns) counts of pictures' tiles, by name and by what they were called.
    ridge, trusts_model: what was chosen.  inseparable: pairs of names that are distinguished no better than by chance.
    """

    classes: TaughtClasses
    points: tuple[TaughtClass, ...]
    macro: float
    macro_interval: tuple[float, float]
    right: int
    total: int
    confusion: Mapping[tuple[str, str], int]
    ridge: float
    trusts_model: bool
    inseparable: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Problem:
    """Rows are tiles, then remembered tiles of the training.  basis, spread: of the weighted rows, by SVD."""

    columns: tuple[str, ...]
    wanted: Float64s
    own: Float64s
    """What the network itself says, in these columns."""
    optional: Float64s
    """(columns,) 1 where `own` may be left out."""
    weight: Float64s
    left: Float64s
    spread: Float64s
    right: Float64s
    count: int
    """Tiles; the other rows are remembered."""
    pictures: Indices

    def residual(self, *, trusts_model: bool) -> Float64s:
        kept = self.own if trusts_model else self.own * (1 - self.optional)
        return (self.wanted - kept) * self.weight[:, None]

    def left_out(self, ridge: float, *, trusts_model: bool) -> Float64s:
        """(count, columns) sums of each tile, without the tiles of its own picture."""
        target = self.residual(trusts_model=trusts_model)
        share = np.zeros_like(self.spread) if np.isinf(ridge) else self.spread**2 / (self.spread**2 + ridge)
        fitted = (self.left * share) @ (self.left.T @ target)
        found = self.wanted[: self.count].copy()
        for picture in np.unique(self.pictures):
            at = np.flatnonzero(self.pictures == picture)
            hat = (self.left[at] * share) @ self.left[at].T
            missing = np.linalg.solve(np.eye(len(at)) - hat, (target - fitted)[at])
            found[at] -= missing / self.weight[at, None]
        return found

    def coefficients(self, ridge: float, *, trusts_model: bool) -> Float64s:
        """(D + 1, columns) of all rows."""
        if np.isinf(ridge):
            return np.zeros((self.right.shape[1], len(self.columns)))
        target = self.residual(trusts_model=trusts_model)
        scaled = self.spread / (self.spread**2 + ridge)
        return np.asarray((self.right.T * scaled) @ (self.left.T @ target), np.float64)


def check(labels: Sequence[str], scores_columns: int, card: ModelCard, *, keeps: bool) -> None:
    """Refuse what cannot be taught.  Raises CalibrationError."""
    if scores_columns < 2:
        raise CalibrationError(
            f"{card.name} {card.version} gives no features: classes cannot be taught on it. Use a bundle with features"
        )
    names = set(labels)
    if not names - {GOOD} and not keeps:
        raise CalibrationError("only defect-free pictures: give class folders, too, or keep the model's classes")
    if len(names | ({GOOD} if card.has_good else set())) < 2 and not keeps:
        raise CalibrationError("one class alone cannot be distinguished from anything: give a folder good, too")


def teach(
    lesson: Lesson, card: ModelCard, memory: Memory | None, *, tile_px: int, temperature: float, keeps: bool
) -> Taught:
    """Fit the classes, and measure them by leaving out one picture at a time.

    memory: of the training, where the card has it.  temperature: of the network.  keeps: the other classes of the model
    stay.
    """
    names = sorted(set(lesson.labels) - {GOOD})
    classes = (*card.classes, *(n for n in names if n not in card.classes)) if keeps else tuple(names)
    has_good = card.has_good or GOOD in lesson.labels
    columns = (*classes, GOOD) if has_good else classes
    own_names = (*card.classes, GOOD) if card.has_good else card.classes
    prior = np.array([[float(own == column) for column in columns] for own in own_names])
    remembered = _remembered(memory, columns, keeps=keeps)
    values, scale = _standardised(lesson, remembered)
    problem = _problem(lesson, remembered, (values - scale[0]) * scale[1], columns, prior, temperature)
    choices = [(ridge, trusts) for trusts in (True, False) for ridge in RIDGES]
    errors = [_error(problem, lesson.labels, problem.left_out(r, trusts_model=t)) for r, t in choices]
    ridge, trusts = choices[int(np.argmin(errors))]
    sums = problem.left_out(ridge, trusts_model=trusts)
    gain = _gain(sums, lesson.labels, columns)
    found = problem.coefficients(ridge, trusts_model=trusts)
    weights = found[:-1] * scale[1][:, None]
    if not trusts:
        prior = prior * (1 - problem.optional)
    head = TaughtClasses(
        Model.of(card),
        tile_px,
        classes,
        has_good,
        (gain * weights).astype(np.float32),
        (gain * (prior + found[-1] - scale[0] @ weights)).astype(np.float32),
        temperature,
    )
    said = [columns[i] for i in sums.argmax(axis=1)]
    confusion = Counter(zip(lesson.labels, said, strict=True))
    asked = _asked(problem, lesson, ridge, confusion, trusts=trusts)
    confidence = np.exp(_log_softmax(sums * gain)).max(axis=1)
    points = tuple(_point(name, lesson, said, confidence, asked) for name in sorted(set(lesson.labels)))
    macro = float(np.mean([point.named / point.n for point in points]))
    return Taught(
        head,
        points,
        macro,
        _macro_interval(points),
        sum(point.named for point in points),
        len(lesson.labels),
        confusion,
        ridge,
        trusts and bool(problem.optional.any()),
        _inseparable(confusion, sorted(set(lesson.labels))),
    )


def _standardised(lesson: Lesson, remembered: Memory) -> tuple[Float64s, tuple[Float64s, Float64s]]:
    """Outputs of all rows, and the centre and the factor that standardise them."""
    values = lesson.scores.outputs().astype(np.float64)
    if remembered.labels:
        values = np.concatenate((values, remembered.values.astype(np.float64)))
    centre, spread = values.mean(axis=0), values.std(axis=0)
    factor = 1.0 / (spread + 0.01 * values.std() + 1e-9)
    importance = np.ones(values.shape[1])
    importance[lesson.scores.features.shape[1] :] = ACTIVATION_WEIGHT
    return values, (centre, factor * importance / np.sqrt((importance**2).sum()))


def _remembered(memory: Memory | None, columns: Sequence[str], *, keeps: bool) -> Memory:
    """The tiles of the training that hold their class in place: on other steel only good surface is one of them."""
    known = () if memory is None else memory.labels
    at = [i for i, label in enumerate(known) if label in columns and (keeps or label == GOOD)]
    if memory is None or not at:
        return Memory(np.empty((0, 0), np.float32), ())
    return Memory(memory.values[at], tuple(memory.labels[i] for i in at))


def _problem(
    lesson: Lesson,
    remembered: Memory,
    values: Float64s,
    columns: tuple[str, ...],
    prior: Float64s,
    temperature: float,
) -> _Problem:
    count = len(lesson.labels)
    labels = (*lesson.labels, *remembered.labels)
    wanted = np.array([[float(label == column) for column in columns] for label in labels])
    own = wanted.copy()  # the network is right about tiles of its training
    own[:count] = every_probability(lesson.scores, temperature).astype(np.float64) @ prior
    known = np.asarray(prior.any(axis=0), np.bool_)
    own *= known
    taught = set(lesson.labels) - {GOOD}
    optional = np.array(
        [float(column in taught and is_own) for column, is_own in zip(columns, known.tolist(), strict=True)]
    )
    sizes = Counter(lesson.labels)
    mean = count / len(sizes)
    weight = np.sqrt([mean / sizes[label] for label in lesson.labels] + [1.0] * (len(labels) - count))
    rows = np.concatenate((values, np.ones((len(values), 1))), axis=1) * weight[:, None]
    left, spread, right = np.linalg.svd(rows, full_matrices=False)
    return _Problem(columns, wanted, own, optional, weight, left, spread, right, count, lesson.pictures)


def _error(problem: _Problem, labels: Sequence[str], sums: Float64s) -> float:
    """Mean squared error of the left-out tiles, each class with the same weight."""
    squares = ((sums - problem.wanted[: problem.count]) ** 2).sum(axis=1)
    names = np.asarray(labels)
    return float(np.mean([squares[names == name].mean() for name in set(labels)]))


def _gain(sums: Float64s, labels: Sequence[str], columns: Sequence[str]) -> float:
    """The factor that makes the labels of left-out tiles most probable.

    The labels are smoothed by as much as so few tiles can hide: without that, tiles that are all right would make any
    tile certain.
    """
    at = np.array([columns.index(label) for label in labels])
    doubt = 1.0 / (len(labels) + 2.0)
    names = np.asarray(labels)
    weight = np.array([1.0 / (names == label).sum() for label in labels])

    def loss(gain: float) -> float:
        logs = _log_softmax(sums * gain)
        each = (1 - doubt) * logs[np.arange(len(at)), at] + doubt * logs.mean(axis=1)
        return -float((weight * each).sum())

    return float(min(GAINS, key=loss))


def _log_softmax(values: Float64s) -> Float64s:
    values = values - values.max(axis=1, keepdims=True)
    return np.asarray(values - np.log(np.exp(values).sum(axis=1, keepdims=True)), np.float64)


def _point(
    name: str, lesson: Lesson, said: Sequence[str], confidence: Float64s, asked: Mapping[str, int | None]
) -> TaughtClass:
    at = [i for i, label in enumerate(lesson.labels) if label == name]
    named = sum(said[i] == name for i in at)
    low, high = binomial.interval(named, len(at))
    others = Counter(said[i] for i in at if said[i] != name)
    sure = [float(confidence[i]) for i in at if said[i] == name]
    return TaughtClass(
        name=name,
        n=len(at),
        named=named,
        low=round(low, 4),
        high=round(high, 4),
        confidence=round(float(np.median(sure)), 4) if sure else None,
        taken_for=dict(others.most_common(3)),
        more=asked.get(name),
    )


def _macro_interval(points: Sequence[TaughtClass]) -> tuple[float, float]:
    """95 % interval of the mean recall: of each class by Jeffreys' prior, in samples with a fixed seed."""
    rng = np.random.default_rng(0)
    drawn = [rng.beta(p.named + 0.5, p.n - p.named + 0.5, SAMPLES) for p in points]
    low, high = np.quantile(np.mean(drawn, axis=0), (0.025, 0.975))
    return float(low), float(high)


def _inseparable(confusion: Mapping[tuple[str, str], int], names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pairs that are distinguished no better than by chance."""
    found = []
    for place, one in enumerate(names):
        for other in names[place + 1 :]:
            mixed = confusion.get((one, other), 0) + confusion.get((other, one), 0)
            apart = confusion.get((one, one), 0) + confusion.get((other, other), 0)
            is_by_chance = apart + mixed >= MIN_COMPARED and apart <= CHANCE * (apart + mixed)
            if is_by_chance or binomial.upper(apart, apart + mixed) < 1 / 2:
                found.append((one, other))
    return tuple(found)


# ---- how many pictures would help ----------------------------------------------------------------------


def _asked(
    problem: _Problem, lesson: Lesson, ridge: float, confusion: Mapping[tuple[str, str], int], *, trusts: bool
) -> dict[str, int | None]:
    """Pictures that a class would need in all for a recall of ENOUGH; None: more than MAX_ASKED, or unknown.

    Errors fall with a power of the number of pictures, which is estimated from halves of these.
    """
    names = sorted(set(lesson.labels))
    sizes = {
        name: len({int(lesson.pictures[i]) for i, label in enumerate(lesson.labels) if label == name}) for name in names
    }
    errors = {n: 1 - confusion.get((n, n), 0) / sum(c for (a, _), c in confusion.items() if a == n) for n in names}
    poor = [name for name in names if errors[name] > 1 - ENOUGH]
    if not poor or min(sizes.values()) < 2 * MIN_PICTURES:
        return dict.fromkeys(poor)
    half = _error_of_halves(problem, lesson, ridge, trusts=trusts)
    whole = float(np.mean(list(errors.values())))
    power = min(1.0, max(0.2, log2(half / whole))) if half > whole > 0 else 0.2
    asked: dict[str, int | None] = {}
    for name in poor:
        count = ceil(sizes[name] * (errors[name] / (1 - ENOUGH)) ** (1 / power))
        asked[name] = count if count <= MAX_ASKED else None
    return asked


def _error_of_halves(problem: _Problem, lesson: Lesson, ridge: float, *, trusts: bool) -> float:
    """Mean error of the classes when half of the pictures teach and the others are judged."""
    rng, names = np.random.default_rng(0), np.asarray(lesson.labels)
    rows = (problem.left * problem.spread) @ problem.right
    target = problem.residual(trusts_model=trusts)
    kept = problem.own if trusts else problem.own * (1 - problem.optional)
    found = []
    for _ in range(DRAWS):
        teaches = np.ones(len(rows), np.bool_)
        for name in set(lesson.labels):
            own = rng.permutation(np.unique(problem.pictures[names == name]))
            teaches[: problem.count] &= ~(np.isin(problem.pictures, own[len(own) // 2 :]) & (names == name))
        gram = rows[teaches].T @ rows[teaches] + min(ridge, 1e9) * np.eye(rows.shape[1])
        weights = np.linalg.solve(gram, rows[teaches].T @ target[teaches])
        judged = np.flatnonzero(~teaches)
        sums = kept[judged] + rows[judged] @ weights / problem.weight[judged, None]
        right = sums.argmax(axis=1) == problem.wanted[judged].argmax(axis=1)
        found.append(np.mean([1 - right[names[judged] == name].mean() for name in set(lesson.labels)]))
    return float(np.mean(found))


def report(found: Taught) -> Iterator[str]:
    """The result for people, line by line."""
    low, high = found.macro_interval
    yield (
        f"left out one picture at a time: mean recall {found.macro:.1%} [{low:.1%}, {high:.1%}], "
        f"{found.right} of {found.total} named right"
    )
    for point in found.points:
        others = ", ".join(f"{n} as {name}" for name, n in point.taken_for.items())
        more = ""
        if point.named / point.n < ENOUGH:
            count = f"about {point.more}" if point.more else f"more than {max(MAX_ASKED, point.n)}"
            more = f"; for {ENOUGH:.0%}: {count} pictures" if point.more or point.n >= 2 * MIN_PICTURES else ""
        yield (
            f"{point.name:18} {point.named} of {point.n} [{point.low:.1%}, {point.high:.1%}]"
            f"{'; ' + others if others else ''}{more}"
        )
