"""Which camera's frame is next, and how many of its tiles there is time for. Pure: the time is an argument.

Earliest deadline first over all cameras; a camera that misses more frames than are served goes first. Under overload
every waiting frame gives up the same share of its tiles; `edge.vision.tile_order` chooses which.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from edge.frame import Frame
from edge.host.clock import NS_PER_S

Head = tuple[str, int]
"""The oldest waiting frame of a camera: the camera's name, and when the frame was grabbed (monotonic ns)."""

RISE: Final = 0.3
FALL: Final = 0.05
"""Weights of a new measurement in an estimate. A cost that rises counts more than one that falls: a missed deadline
is worse than a tile left out."""
RELIEF: Final = 0.9
"""Factor of an estimate each time it makes a frame late: a single slow moment must not stop a camera for ever."""
CAPACITY: Final = 0.9
"""Share of the time that is planned; the rest covers what the plan cannot know."""
DEBT: Final = 3
"""Missed frames minus served frames from which on a camera is served first."""
MAX_DEBT: Final = 12
PATIENCE_NS: Final = NS_PER_S
"""A recording uses the time that live cameras leave over, but gets a turn after waiting this long."""
PACE: Final = 0.1
"""Weight of the newest interval in the measured period of a camera."""


class Cost:
    """The measured time to inspect one frame, ns: a fixed part and a part per tile."""

    __slots__ = ("fixed_ns", "tile_ns")

    def __init__(self) -> None:
        """Before the first measurement a frame costs nothing, so that it is inspected whole."""
        self.fixed_ns = 0.0
        self.tile_ns = 0.0

    def learn(self, tiles: int, inference_ns: int, total_ns: int) -> None:
        """Update the estimate with one inspected frame.  tiles >= 1.  total_ns: includes inference_ns."""
        self.tile_ns = _follow(self.tile_ns, inference_ns / tiles)
        self.fixed_ns = _follow(self.fixed_ns, max(0, total_ns - inference_ns))

    def relieve(self) -> None:
        """Lower the estimate, because it made a frame late."""
        self.fixed_ns *= RELIEF
        self.tile_ns *= RELIEF

    def of(self, tiles: float) -> float:
        """The expected time for this many tiles, ns."""
        return self.fixed_ns + tiles * self.tile_ns

    def fitting(self, time_ns: float) -> int:
        """The number of tiles that fit into this time."""
        left_ns = time_ns - self.fixed_ns
        if left_ns < 0:
            return 0
        return int(left_ns / self.tile_ns) if self.tile_ns > 0 else 1 << 30


def _follow(known: float, new: float) -> float:
    return new if known == 0 else known + (RISE if new > known else FALL) * (new - known)


@dataclass(slots=True)
class _Lane:
    """One camera."""

    budget_ns: int | None
    """From grab to verdict; None for a recording, whose frames can wait."""
    tile_revisit_frames: int
    cost: Cost
    tiles: int = 0
    """The number of tiles of the last frame, inspected or not."""
    period_ns: float = math.inf
    """The measured time between two frames."""
    last: tuple[int, int] | None = None
    """Number and grab time of the newest planned frame."""
    served_ns: int = 0
    """The last turn of a recording."""
    debt: int = 0

    def min_tiles(self, tiles: int) -> int:
        """Below this number the frame is late: `tile_revisit_frames` would not hold."""
        return min_tiles(tiles, self.tile_revisit_frames)


def min_tiles(tiles: int, tile_revisit_frames: int) -> int:
    """The number of tiles of each frame to inspect, so that every tile is inspected within that many frames.

    At least half of the tiles of a frame are chosen by turns (see `edge.vision.tile_order`), hence the factor two.
    """
    if tile_revisit_frames <= 1:
        return tiles
    return min(tiles, max(1, 2 * math.ceil(tiles / tile_revisit_frames) - 1))


class Scheduler:
    """Plans one inspection thread. Knows the budget, the cost and the frame period of each camera."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}

    def add(self, name: str, *, budget_ns: int | None, tile_revisit_frames: int) -> None:
        """Add a camera, or reset one.  budget_ns: from grab to verdict; None: its frames can wait.

        tile_revisit_frames: every tile is inspected within this many inspected frames.
        """
        self._lanes[name] = _Lane(budget_ns, tile_revisit_frames, Cost())

    def deadline_ns(self, name: str, grabbed_ns: int) -> int | None:
        """When the verdict on a frame is due; None: its frames can wait."""
        budget_ns = self._lanes[name].budget_ns
        return None if budget_ns is None else grabbed_ns + budget_ns

    def next(self, heads: Sequence[Head], now_ns: int) -> str | None:
        """The camera whose waiting frame is taken next, or None when no frame waits.

        A frame past its deadline is taken at once, to be counted as late: that costs almost nothing.
        """
        if not heads:
            return None
        return min(heads, key=lambda head: self._urgency(head, now_ns))[0]

    def _urgency(self, head: Head, now_ns: int) -> tuple[int, int, int, str]:
        name, grabbed_ns = head
        lane = self._lanes[name]
        deadline_ns = self.deadline_ns(name, grabbed_ns)
        if deadline_ns is None:
            turn_ns = lane.served_ns + PATIENCE_NS
            return (2 if now_ns < turn_ns else 1, 0, turn_ns, name)
        if deadline_ns < now_ns:
            return (0, 0, deadline_ns, name)
        owed = lane.debt if lane.debt >= DEBT else 0
        return (1, -owed, deadline_ns, name)

    def plan(self, frame: Frame, tiles: int, others: Iterable[Head], now_ns: int) -> int:
        """How many tiles of this frame to inspect; 0: the frame is late.

        tiles: of the whole frame.  others: the frames of other cameras that wait.
        """
        lane = self._lanes[frame.camera]
        lane.tiles = tiles
        self._keep_pace(lane, frame.number, frame.grabbed_ns)
        if frame.deadline_ns is None or lane.budget_ns is None:
            lane.served_ns = now_ns
            return tiles
        left_ns = frame.deadline_ns - now_ns
        fewest = lane.min_tiles(tiles)
        if left_ns < 0:
            return 0
        if lane.cost.fitting(left_ns) < fewest:
            if lane.cost.fitting(lane.budget_ns) < fewest or lane.debt >= DEBT:
                lane.cost.relieve()  # the estimate is in the way, not the queue: unchanged it would stay so for ever
            return 0
        share = min(self._share_of_load(), self._share_of_queue(lane, tiles, frame.deadline_ns, others, now_ns))
        wanted = math.floor(share * tiles + 1e-9)
        return max(fewest, min(tiles, wanted, lane.cost.fitting(left_ns)))

    def done(self, name: str, tiles: int, inference_ns: int, total_ns: int) -> None:
        """A frame was inspected, in whole or in part."""
        lane = self._lanes[name]
        lane.debt = max(0, lane.debt - 1)
        if tiles:
            lane.cost.learn(tiles, inference_ns, total_ns)

    def missed(self, name: str, frames: int = 1) -> None:
        """Frames of a camera were late, or dropped because they waited too long."""
        lane = self._lanes[name]
        lane.debt = min(MAX_DEBT, lane.debt + frames)

    def spare_ns(self) -> int:
        """How long the loop may do something else, if frames that come meanwhile shall be inspected whole and in time.

        One frame of every live camera is reckoned with.  0 under overload, and without a live camera.
        """
        live = [(lane.budget_ns, lane) for lane in self._lanes.values() if lane.budget_ns is not None]
        if not live or self._share_of_load() < 1.0:
            return 0
        return max(0, int(min(budget_ns for budget_ns, _ in live) - sum(lane.cost.of(lane.tiles) for _, lane in live)))

    def remove(self, name: str) -> None:
        """Forget a camera."""
        self._lanes.pop(name, None)

    def gone(self, name: str) -> None:
        """The camera delivers no frames for now: it takes no share of the time."""
        lane = self._lanes[name]
        lane.period_ns, lane.last, lane.debt = math.inf, None, 0

    def _keep_pace(self, lane: _Lane, number: int, grabbed_ns: int) -> None:
        if lane.last is not None:
            frames, elapsed_ns = number - lane.last[0], grabbed_ns - lane.last[1]
            if frames > 0 and elapsed_ns > 0:
                new = elapsed_ns / frames
                known = lane.period_ns
                lane.period_ns = new if math.isinf(known) else known + PACE * (new - known)
        lane.last = (number, grabbed_ns)

    def _share_of_load(self) -> float:
        """The share of all tiles that the live cameras can afford at the rate at which their frames come."""
        live = [lane for lane in self._lanes.values() if lane.budget_ns is not None]
        fixed = sum(lane.cost.fixed_ns / lane.period_ns for lane in live)
        inference = sum(lane.cost.tile_ns * lane.tiles / lane.period_ns for lane in live)
        if fixed + inference <= CAPACITY:
            return 1.0
        return max(0.0, (CAPACITY - fixed) / inference) if inference > 0 else 1.0

    def _share_of_queue(self, lane: _Lane, tiles: int, own_ns: int, others: Iterable[Head], now_ns: int) -> float:
        """The share of their tiles with which this frame and the waiting frames all meet their deadlines.

        own_ns: the deadline of this frame.
        """
        waiting = []
        for name, grabbed_ns in others:
            other, deadline_ns = self._lanes[name], self.deadline_ns(name, grabbed_ns)
            if deadline_ns is not None and deadline_ns > now_ns:
                waiting.append((deadline_ns, other.cost.fixed_ns, other.cost.tile_ns * other.tiles))
        waiting.sort()
        share = 1.0
        fixed, inference = lane.cost.fixed_ns, lane.cost.tile_ns * tiles
        for deadline_ns, more_fixed, more_inference in [(own_ns, 0.0, 0.0), *waiting]:
            fixed += more_fixed
            inference += more_inference
            if inference > 0:
                share = min(share, (max(deadline_ns, own_ns) - now_ns - fixed) / inference)
        return max(0.0, share)
