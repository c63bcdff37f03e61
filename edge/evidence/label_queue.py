"""Which picture a person labels next.

Two streams are mixed. Pictures that the model is unsure about come nearest to the threshold first: a label of those
teaches most. Tiles taken at random come in the order of their hashes, and blind: only they measure without bias what
the model misses. When nothing unsure is left, defects come, in the order of their hashes too: a random sample of them
gives the share of false alarms.

The process that serves the page uses this module: it imports neither numpy nor pydantic.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from edge.evidence import archive
from edge.evidence.archive import Kind, Named
from edge.evidence.labels import KINDS, LabelStore, Origin, origin_of
from edge.host.clock import NS_PER_S, wall_ns_of

BLIND_EVERY: Final = 4
"""One picture in four is a blind one, as long as there are random tiles."""
MIN_HOURS: Final = 0.05
"""A shorter time gives no rate."""
MAX_LOOKED_AT: Final = 1000
"""Newest pictures of each kind that are considered."""
Order = Literal["unsure", "random", "defects"]
ORDERS: Final[tuple[Order, ...]] = get_args(Order)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A picture to label.  scores: of its most probable classes.  box, crop_px, frame_px: see the facts."""

    origin: Origin
    hash: str
    scores: tuple[tuple[str, float], ...]
    box: tuple[float, ...] | None
    crop_px: tuple[int, ...] | None
    frame_px: tuple[int, ...] | None
    event_id: str | None
    track_id: str | None = None

    def as_json(self, *, blind: bool) -> dict[str, Any]:
        """For the page.  blind: without anything that follows from the verdict of the model."""
        one = self.origin
        return {
            "evidence": one.evidence,
            "kind": one.kind,
            "camera": one.camera,
            "coil": one.coil,
            "position_m": one.position_m,
            "time": one.taken,
            "crop_px": self.crop_px,
            "frame_px": self.frame_px,
            "blind": blind,
            "decided": None if blind else one.decided,
            "guess": None if blind else one.guess,
            "confidence": None if blind else one.confidence,
            "anomaly": None if blind else one.anomaly,
            "scores": None if blind else [{"class": name, "p": p} for name, p in self.scores],
            "box": None if blind else self.box,
            "event_id": None if blind else self.event_id,
        }


@dataclass(frozen=True, slots=True)
class Batch:
    """What comes next.  left: pictures without a label, by stream.  guesses: those a grid can show, by guess."""

    items: tuple[Candidate, ...]
    left: dict[Order, int]
    guesses: dict[str, int]


class LabelQueue:
    """Orders the pictures of an archive.  All methods may be called by any thread."""

    def __init__(self, folder: Path, labels: LabelStore, *, max_looked_at: int = MAX_LOOKED_AT) -> None:
        self._folder = folder
        self._labels = labels
        self._max_looked_at = max_looked_at
        self._using = threading.Lock()
        self._known: OrderedDict[str, Candidate | None] = OrderedDict()
        """Facts of pictures, by path: a picture never changes.  None: it has no facts."""

    def next(
        self,
        order: Order,
        limit: int,
        *,
        thresholds: dict[str, dict[str, float]] | None = None,
        guess: str | None = None,
        camera: str | None = None,
        skip: Collection[str] = (),
    ) -> Batch:
        """The next pictures.

        thresholds: by camera and class, those in use.  guess: only pictures with this guess, for a grid, none of them
        blind.  skip: hashes of pictures that the caller has already.  Raises EvidenceError.
        """
        labelled, ever = self._labels.labelled(), self._labels.ever()
        streams: dict[str, list[Candidate]] = {}
        for kind in KINDS:
            found = [one for one in self._candidates(kind) if one.origin.evidence not in labelled]
            if camera is not None:
                found = [one for one in found if one.origin.camera == camera]
            streams[kind] = one_a_defect(found) if kind == "defect" else found
        # an audit tile whose label was undone is no longer blind: it would count as if nobody had seen the guess
        blind = sorted((one for one in streams["audit"] if one.origin.evidence not in ever), key=_by_hash)
        unsure = sorted(streams["unsure"], key=lambda one: (margin(one.origin, thresholds), one.hash))
        defects = sorted(streams["defect"], key=_by_hash)
        guesses = Counter(one.origin.guess for one in (*unsure, *defects) if one.origin.guess)
        if guess is not None:
            chosen: Iterable[Candidate] = [one for one in (*defects, *unsure) if one.origin.guess == guess]
        elif order == "random":
            chosen = blind
        elif order == "defects":
            chosen = mixed(defects, blind)
        else:
            chosen = mixed([*unsure, *defects], blind)
        skipped = frozenset(skip)
        items = [one for one in chosen if one.hash not in skipped]
        left: dict[Order, int] = {"unsure": len(unsure), "random": len(blind), "defects": len(defects)}
        return Batch(tuple(items[:limit]), left, dict(guesses.most_common()))

    def is_blind(self, path: str) -> bool:
        """Whether nobody may see the model's guess for this picture yet.  Raises EvidenceError."""
        return path.startswith("audit/") and path not in self._labels.ever()

    def about(self, path: str) -> Candidate | None:
        """One picture by its path; None when it is gone, or has no facts.  Raises EvidenceError."""
        named = archive.named(path)
        return None if named is None else self._read(named)

    def defects_per_hour(self) -> float | None:
        """Defects in the archive for each hour between the first and the last; None where there are too few."""
        found = one_a_defect(self._candidates("defect"))
        times = sorted(filter(None, (_time_ns(one.origin.taken or "") for one in found)))
        hours = (times[-1] - times[0]) / NS_PER_S / 3600 if times else 0.0
        return (len(times) - 1) / hours if hours >= MIN_HOURS else None

    def _candidates(self, kind: Kind) -> list[Candidate]:
        """The newest pictures of a kind, newest first."""
        found = archive.newest(self._folder, (kind,), self._max_looked_at)
        return [one for one in map(self._read, found) if one is not None]

    def _read(self, named: Named) -> Candidate | None:
        with self._using:
            if named.path in self._known:
                self._known.move_to_end(named.path)
                return self._known[named.path]
        facts = archive.facts_at(self._folder, named.path)
        candidate = candidate_of(named, facts) if facts else None
        with self._using:
            self._known[named.path] = candidate
            if len(self._known) > 3 * self._max_looked_at:
                self._known.popitem(last=False)
        return candidate


def mixed(shown: Sequence[Candidate], blind: Sequence[Candidate]) -> Iterable[Candidate]:
    """One blind picture after every three others, until one of the two runs out; then the rest."""
    shown_at = blind_at = 0
    while shown_at < len(shown) or blind_at < len(blind):
        is_turn = (shown_at + blind_at) % BLIND_EVERY == BLIND_EVERY - 1
        if blind_at < len(blind) and (is_turn or shown_at == len(shown)):
            yield blind[blind_at]
            blind_at += 1
        else:
            yield shown[shown_at]
            shown_at += 1


def one_a_defect(found: Sequence[Candidate]) -> list[Candidate]:
    """Of each defect the first picture in this order: the opening and the closing event have one each."""
    kept, seen = list[Candidate](), set[tuple[str, str]]()
    for one in found:
        key = (one.origin.camera, one.track_id or one.origin.evidence)
        if key not in seen:
            seen.add(key)
            kept.append(one)
    return kept


def margin(origin: Origin, thresholds: dict[str, dict[str, float]] | None) -> float:
    """How far a picture is from the decision, smallest first; unknown comes last.

    With an anomaly model its score decides, and 1 is the threshold.
    """
    if origin.anomaly is not None:
        return abs(origin.anomaly - 1.0)
    if origin.confidence is None:
        return 2.0
    threshold = (thresholds or {}).get(origin.camera, {}).get(origin.best or "")
    return origin.confidence if threshold is None else abs(origin.confidence - threshold)


def candidate_of(named: Named, facts: dict[str, Any]) -> Candidate:
    """From the facts of a picture."""
    origin, scores = origin_of(named.path, facts), facts.get("scores")
    shown = scores.items() if isinstance(scores, dict) else ()
    ranked = sorted(((str(name), float(p)) for name, p in shown if isinstance(p, int | float)), key=lambda one: -one[1])
    if not ranked and origin.best is not None and origin.confidence is not None:
        ranked = [(origin.best, origin.confidence)]
    event_id = facts.get("event_id")
    return Candidate(
        origin,
        named.hash,
        tuple(ranked[:3]),
        _numbers(facts.get("box_in_picture")),
        _pixels(facts.get("crop_px"), 4),
        _pixels(facts.get("frame_px"), 2),
        event_id[:80] if isinstance(event_id, str) else None,
        None if facts.get("track_id") is None else str(facts["track_id"])[:80],
    )


def _time_ns(text: str) -> int:
    try:
        return wall_ns_of(text)
    except ValueError:
        return 0


def _by_hash(one: Candidate) -> str:
    return one.hash


def _numbers(value: object) -> tuple[float, ...] | None:
    if isinstance(value, list) and len(value) == 4 and all(isinstance(side, int | float) for side in value):
        return tuple(float(side) for side in value)
    return None


def _pixels(value: object, count: int) -> tuple[int, ...] | None:
    if isinstance(value, list) and len(value) == count and all(isinstance(side, int) for side in value):
        return tuple(value)
    return None
