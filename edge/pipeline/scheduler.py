"""Whose frame is next, and how much of it there is time for. Pure: frames, costs and the time are arguments.

Earliest deadline first over all cameras; a camera that others keep from being served goes before them. When not
everything fits, every waiting frame gives up the same share of its tiles; which ones is the business of `rotation`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from edge.host.clock import NS_PER_S

Head = tuple[str, int]
"""The oldest waiting frame of a camera: the camera's name, and when the frame was grabbed (monotonic ns)."""

RISE: Final = 0.3
FALL: Final = 0.05
"""A cost that grew is believed sooner than one that fell: a deadline missed costs more than a tile left out."""
RELIEF: Final = 0.9
"""What an estimate shrinks to with each frame that it forbids: a single slow moment must not stop a camera for ever."""
CAPACITY: Final = 0.9
"""Share of the time that may be planned; the rest is for what nobody foresees."""
DEBT: Final = 3
"""Frames missed more than served from which on a camera is served first."""
MAX_DEBT: Final = 12
PATIENCE_NS: Final = NS_PER_S
"""Recordings can wait, and take what live cameras leave over, but have a turn each time this has passed."""
PACE: Final = 0.1
"""Share of the newest interval in the measured pace of a camera."""


class Cost:
    """What inspection of a frame takes, ns: a fixed part and a part per tile, as measured."""

    __slots__ = ("fixed_ns", "tile_ns")

    def __init__(self) -> None:
        """Nothing is known, so everything is tried."""
        self.fixed_ns = 0.0
        self.tile_ns = 0.0

    def learn(self, tiles: int, inference_ns: int, total_ns: int) -> None:
        """Take in one inspected frame.  tiles >= 1.  total_ns: all it took, the network's time included."""
        self.tile_ns = _follow(self.tile_ns, inference_ns / tiles)
        self.fixed_ns = _follow(self.fixed_ns, max(0, total_ns - inference_ns))

    def relieve(self) -> None:
        """A frame was refused on the word of this estimate."""
        self.fixed_ns *= RELIEF
        self.tile_ns *= RELIEF

    def of(self, tiles: float) -> float:
        return self.fixed_ns + tiles * self.tile_ns

    def fitting(self, time_ns: float) -> int:
        """How many tiles fit into that time."""
        left_ns = time_ns - self.fixed_ns
        if left_ns < 0:
            return 0
        return int(left_ns / self.tile_ns) if self.tile_ns > 0 else 1 << 30


def _follow(known: float, new: float) -> float:
    return new if known == 0 else known + (RISE if new > known else FALL) * (new - known)


@dataclass(slots=True)
class _Lane:
    """One camera."""

    budget_ns: int
    live: bool
    tile_revisit_frames: int
    cost: Cost
    tiles: int = 0
    """Of a whole frame, as last seen."""
    period_ns: float = math.inf
    """From frame to frame, as measured."""
    last: tuple[int, int] | None = None
    """Number and grab of the newest frame that was looked at."""
    served_ns: int = 0
    """For a recording: when it last had its turn."""
    debt: int = 0

    def least(self, tiles: int) -> int:
        """Tiles below which a frame is not worth beginning: fewer would break the promise of `tile_revisit_frames`."""
        return least_tiles(tiles, self.tile_revisit_frames)


def least_tiles(tiles: int, tile_revisit_frames: int) -> int:
    """Fewest tiles of each frame so that all are seen within so many frames.

    At least half of the tiles of a frame go by turns (see `rotation`), hence the two.
    """
    if tile_revisit_frames <= 1:
        return tiles
    return min(tiles, max(1, 2 * math.ceil(tiles / tile_revisit_frames) - 1))


class Scheduler:
    """Decides for one inspection thread. Knows of each camera its budget, its cost and its pace."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}

    def add(self, name: str, *, budget_ns: int, live: bool, tile_revisit_frames: int) -> None:
        """live: its frames cannot wait.  tile_revisit_frames: every tile is seen within so many inspected frames."""
        self._lanes[name] = _Lane(budget_ns, live, tile_revisit_frames, Cost())

    def next(self, heads: Sequence[Head], now_ns: int) -> str | None:
        """The camera whose waiting frame is taken next, or None when none waits.

        A frame that is past its deadline is taken at once, to be counted: it costs nothing.
        """
        if not heads:
            return None
        return min(heads, key=lambda head: self._urgency(head, now_ns))[0]

    def _urgency(self, head: Head, now_ns: int) -> tuple[int, int, int, str]:
        name, grabbed_ns = head
        lane = self._lanes[name]
        if not lane.live:
            deadline_ns = lane.served_ns + PATIENCE_NS
            return (2 if now_ns < deadline_ns else 1, 0, deadline_ns, name)
        deadline_ns = grabbed_ns + lane.budget_ns
        if deadline_ns < now_ns:
            return (0, 0, deadline_ns, name)
        owed = lane.debt if lane.debt >= DEBT else 0
        return (1, -owed, deadline_ns, name)

    def plan(self, name: str, number: int, grabbed_ns: int, tiles: int, heads: Iterable[Head], now_ns: int) -> int:
        """How many tiles of this frame to inspect; 0: it is late.

        number, grabbed_ns, tiles: of the frame, and how many tiles it has.  heads: the other frames that wait.
        """
        lane = self._lanes[name]
        lane.tiles = tiles
        self._keep_pace(lane, number, grabbed_ns)
        if not lane.live:
            lane.served_ns = now_ns
            return tiles
        left_ns = grabbed_ns + lane.budget_ns - now_ns
        least = lane.least(tiles)
        if left_ns < 0:
            return 0
        if lane.cost.fitting(left_ns) < least:
            if lane.cost.fitting(lane.budget_ns) < least or lane.debt >= DEBT:
                lane.cost.relieve()  # not the queue is in the way, the estimate is, or it would be so for ever
            return 0
        share = min(self._share_of_load(), self._share_of_queue(lane, tiles, grabbed_ns, heads, now_ns))
        wanted = math.floor(share * tiles + 1e-9)
        return max(least, min(tiles, wanted, lane.cost.fitting(left_ns)))

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
        """How long the line may be busy with something else, so that a frame of every live camera that comes right
        after its begin is still inspected whole and in time; 0 when it may not.
        """
        live = [lane for lane in self._lanes.values() if lane.live]
        if not live or self._share_of_load() < 1.0:
            return 0
        return max(0, int(min(lane.budget_ns for lane in live) - sum(lane.cost.of(lane.tiles) for lane in live)))

    def remove(self, name: str) -> None:
        """The camera is no more."""
        self._lanes.pop(name, None)

    def gone(self, name: str) -> None:
        """The camera delivers no longer: it takes no share of the time."""
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
        """The share of all tiles that the live cameras can afford at the pace at which their frames come."""
        live = [lane for lane in self._lanes.values() if lane.live]
        fixed = sum(lane.cost.fixed_ns / lane.period_ns for lane in live)
        inference = sum(lane.cost.tile_ns * lane.tiles / lane.period_ns for lane in live)
        if fixed + inference <= CAPACITY:
            return 1.0
        return max(0.0, (CAPACITY - fixed) / inference) if inference > 0 else 1.0

    def _share_of_queue(self, lane: _Lane, tiles: int, grabbed_ns: int, heads: Iterable[Head], now_ns: int) -> float:
        """The share of their tiles with which this frame and those that wait all meet their deadlines."""
        waiting = sorted(
            (grabbed + other.budget_ns, other.cost.fixed_ns, other.cost.tile_ns * other.tiles)
            for grabbed, other in ((head[1], self._lanes[head[0]]) for head in heads)
            if other.live and grabbed + other.budget_ns > now_ns
        )
        share = 1.0
        fixed, inference = lane.cost.fixed_ns, lane.cost.tile_ns * tiles
        own_ns = grabbed_ns + lane.budget_ns
        for deadline_ns, more_fixed, more_inference in [(own_ns, 0.0, 0.0), *waiting]:
            fixed += more_fixed
            inference += more_inference
            if inference > 0:
                share = min(share, (max(deadline_ns, own_ns) - now_ns - fixed) / inference)
        return max(0.0, share)
