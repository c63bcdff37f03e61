"""How many cameras this machine keeps up with: real camera processes, the inspection loop in a thread, no broker."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import SecretStr

from edge import config
from edge.camera.supervisor import Supervisor
from edge.host import machine
from edge.host.clock import NS_PER_S, Clock, SystemClock
from edge.model.bundle import Bundle
from edge.model.variant import NETWORKS, choose
from edge.pipeline.camera_session import STAGES, CameraSession
from edge.pipeline.frame_path import LINE_SCAN_PX, MIN_PX, REPORT_S, NoOutbox, default_camera
from edge.pipeline.histogram import Counts, Histogram, Summary
from edge.pipeline.loop import InspectionLoop
from edge.pipeline.reporting import Subscribers

PACES_FPS: Final = (10, 30)
MAX_CAMERAS: Final = 32
SETTLE_S: Final = 2.0
"""Time before the measurement: cameras start, and the scheduler measures what a tile costs."""
START_S: Final = 60
"""Cameras that have not started after this further time are measured as missing."""
POLL_S: Final = 0.05
STOP_S: Final = 2.0
MAX_MISSED: Final = 0.01
"""Share of the frames that may be missed before the verdict is failing instead of degrading."""

LoadVerdict = Literal["stable", "degrading", "failing"]


@dataclass(frozen=True, slots=True)
class CameraLoad:
    """What happened to the frames of a number of cameras at one pace."""

    cameras: int
    fps: float
    network: str
    verdict: LoadVerdict
    """stable: every tile of every frame.  degrading: tiles skipped, or up to 1 % missed.  failing: more missed."""
    stages: dict[str, Summary]
    """ms, by stage of `camera_session.STAGES`, of the inspected frames; total is from grab to verdict."""
    partial: float
    """Share of the frames that were inspected in part."""
    missed: float
    """Share of the frames that were late or dropped."""
    daemon_cpu: float
    camera_cpu: float
    """Cores used by this process, and by each camera process."""
    daemon_bytes: int
    camera_bytes: int
    """Resident memory of this process, and of each camera process."""


def until_failing(run: Callable[[int, float], CameraLoad]) -> Iterator[CameraLoad]:
    """For each pace, double the number of cameras until the machine fails.  run: runs this many cameras at this fps."""
    for fps in PACES_FPS:
        count = 1
        while count <= MAX_CAMERAS:
            load = run(count, fps)
            yield load
            if load.verdict == "failing":
                break
            count *= 2


def run_cameras(
    loaded: Bundle,
    model: config.Model,
    count: int,
    fps: float,
    seconds: float,
    clock: Clock | None = None,
    *,
    like: config.Camera | None = None,
    size_px: tuple[int, int] = LINE_SCAN_PX,
) -> CameraLoad:
    """Run cameras that show the generated strip, and measure.  Raises BundleError.

    seconds: of the measurement.  like: camera whose tiles and budget all of them have.  size_px: width and height of
    a frame.
    """
    clock = clock or SystemClock()
    width, height = (max(MIN_PX, side) for side in size_px)
    source = {"source": SecretStr(f"strip:?width={width}&height={height}"), "fps": fps, "live": True, "loop": False}
    like = (like or default_camera(loaded)).model_copy(update={**source, "width": None, "height": None})
    cameras = [like.model_copy(update={"name": f"c{n}"}) for n in range(count)]
    classifier = choose(loaded, model, clock).classifier
    sessions = [CameraSession.of(camera, classifier, clock, live=True) for camera in cameras]
    supervisor = Supervisor(cameras, clock)
    loop = InspectionLoop(sessions, supervisor, Subscribers(NoOutbox()), clock, report_s=REPORT_S)
    loop.start()
    supervisor.start()
    try:
        _wait(clock, supervisor, SETTLE_S, count)
        before, cpu_before = _totals(sessions), _cpu_s(supervisor)
        started_ns = clock.monotonic_ns()
        _wait(clock, supervisor, seconds, 0)
        elapsed_s = (clock.monotonic_ns() - started_ns) / NS_PER_S
        after, cpu_after = _totals(sessions), _cpu_s(supervisor)
        sizes = [size for pid in _pids(supervisor) if (size := machine.resident_bytes(pid)) is not None]
        own_bytes = machine.resident_bytes(os.getpid()) or 0
    finally:
        supervisor.stop(STOP_S)
        loop.stop(STOP_S)
        supervisor.close()
    frames = max(1, after.frames - before.frames)
    partial = (after.partial - before.partial) / frames
    # Frames that never arrived are missed as well: a camera process that cannot keep its pace.
    missed = max((after.missed - before.missed) / frames, 1 - frames / (count * fps * elapsed_s) - MAX_MISSED)
    return CameraLoad(
        cameras=count,
        fps=fps,
        network=NETWORKS[classifier.network],
        verdict=verdict_of(partial, missed),
        stages={stage: counts.since(before.stages[stage]).summary() for stage, counts in after.stages.items()},
        partial=partial,
        missed=max(0.0, missed),
        daemon_cpu=(cpu_after[0] - cpu_before[0]) / elapsed_s,
        camera_cpu=(cpu_after[1] - cpu_before[1]) / elapsed_s / count,
        daemon_bytes=own_bytes,
        camera_bytes=sum(sizes) // max(1, len(sizes)),
    )


def verdict_of(partial: float, missed: float) -> LoadVerdict:
    """partial, missed: shares of the frames."""
    if missed > MAX_MISSED:
        return "failing"
    return "stable" if partial <= 0 and missed <= 0 else "degrading"


@dataclass(frozen=True, slots=True)
class _Totals:
    frames: int
    partial: int
    missed: int
    stages: dict[str, Counts]


def _totals(sessions: Sequence[CameraSession]) -> _Totals:
    """The counters of all cameras, added up."""
    totals = [session.counters.account.total() for session in sessions]
    stages = {stage: Histogram() for stage in STAGES}
    for session in sessions:
        for stage, histogram in stages.items():
            histogram.take(session.counters.stages[stage].counts())
    return _Totals(
        sum(total["delivered"] for total in totals),
        sum(total["partial"] for total in totals),
        sum(total["frames"]["late"] + total["frames"]["dropped"] for total in totals),
        {stage: histogram.counts() for stage, histogram in stages.items()},
    )


def _pids(supervisor: Supervisor) -> list[int]:
    return [status.pid for status in supervisor.snapshot().values() if status.pid is not None]


def _cpu_s(supervisor: Supervisor) -> tuple[float, float]:
    """Processor seconds of this process, and of all camera processes together."""
    return machine.cpu_seconds(os.getpid()) or 0.0, sum(machine.cpu_seconds(pid) or 0.0 for pid in _pids(supervisor))


def _wait(clock: Clock, supervisor: Supervisor, seconds: float, running: int) -> None:
    """Wait for the time to pass and for this many cameras to deliver frames.  The loop's thread inspects meanwhile."""
    until_ns = clock.monotonic_ns() + int(seconds * NS_PER_S)
    limit_ns = until_ns + START_S * NS_PER_S
    pause = threading.Event()
    while True:
        now_ns = clock.monotonic_ns()
        started = sum(status.delivered > 0 for status in supervisor.snapshot().values())
        if now_ns >= until_ns and (started >= running or now_ns >= limit_ns):
            return
        pause.wait(POLL_S)
