"""How the whole node is doing, as one value for the outputs that show it to people."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from edge.camera.sources.simulator import is_strip
from edge.coverage.strip_position import StripReading
from edge.delivery.output import CameraFigures, NodeStatus
from edge.evidence.archive import Archive
from edge.host import machine
from edge.host.clock import NS_PER_S, Clock, clock_synced
from edge.monitoring.monitored_node import MonitoredNode
from edge.pipeline.camera_session import CameraSession

MACHINE_EVERY_NS: Final = 2 * NS_PER_S
"""Between two looks at sensors, memory and disk."""
READ_EVERY_NS: Final = NS_PER_S // 2


class NodeStatusReader:
    """Reads counters that others keep, and waits for nothing.  Owned by the main thread."""

    def __init__(
        self,
        node: MonitoredNode,
        dead_letters: Callable[[], int],
        model: Callable[[], Mapping[str, Any]],
        outputs: Callable[[], Mapping[str, Mapping[str, Any]]],
        state_dir: Path,
        max_evidence_bytes: int,
        clock: Clock,
        *,
        since: str,
    ) -> None:
        """dead_letters: events that the broker refused.  model: the one that decides, with its classes and its trial.

        outputs: how each is doing.  state_dir: on the disk whose free space matters.  since: when the node started.
        """
        self._node = node
        self._dead_letters = dead_letters
        self._model = model
        self._outputs = outputs
        self._state_dir = state_dir
        self._max_evidence_bytes = max_evidence_bytes
        self._clock = clock
        self._since = since
        self._read_ns: int | None = None
        self._machine_ns: int | None = None
        self._machine: dict[str, Any] = {}
        self._coil: str | None = None
        self._position_m = 0.0
        self._coil_started: dict[str, Mapping[str, float]] = {}
        """Meters of each camera when the coil that runs started."""

    def read_if_due(self) -> NodeStatus | None:
        """The status; None shortly after the last one."""
        now_ns = self._clock.monotonic_ns()
        if self._read_ns is not None and now_ns - self._read_ns < READ_EVERY_NS:
            return None
        self._read_ns = now_ns
        return self.read()

    def read(self) -> NodeStatus:
        node, strip, sessions = self._node, self._node.strip(), self._node.sessions()
        totals = {session.name: session.counters.account.total() for session in sessions}
        self._follow_coil(strip, totals)
        link, judged = node.publisher.snapshot(), node.judged()
        return NodeStatus(
            since=self._since,
            strip=strip,
            cameras={session.name: self._figures(session, totals[session.name]) for session in sessions},
            delivery={
                "connected": link.connected,
                "queued": link.depth + node.recorder.waiting,
                "dead_letters": self._dead_letters(),
            },
            outputs=self._outputs(),
            model=self._model(),
            machine=self._machine_now(),
            evidence=None if node.evidence is None else self._evidence(node.evidence.archive),
            grade=judged.grade,
            roll_marks=judged.roll_marks,
        )

    def _follow_coil(self, strip: StripReading, totals: Mapping[str, Mapping[str, Any]]) -> None:
        """Start the meters anew with each coil, also with one of the same name."""
        position_m = strip.position_m or 0.0
        if strip.coil != self._coil or position_m < self._position_m - 1.0:
            self._coil_started = {name: total["strip"] for name, total in totals.items() if total["strip"]}
        self._coil, self._position_m = strip.coil, position_m

    def _figures(self, session: CameraSession, total: Mapping[str, Any]) -> CameraFigures:
        camera, settings = session.camera, session.settings
        return CameraFigures(
            frames=total["frames"],
            tiles=total["tiles"],
            strip_m=_since(total["strip"], self._coil_started.get(session.name)),
            size_px=session.tracking.frame_px,
            roi_px=camera.roi,
            mm_per_px=None if camera.scale is None else camera.scale.mm_per_px,
            budget_ms=None if settings.budget_ns is None else camera.budget_ms,
            surface=camera.surface,
            operator_side=camera.operator_side,
            is_generated=is_strip(camera.source.get_secret_value()),
        )

    def _machine_now(self) -> dict[str, Any]:
        now_ns = self._clock.monotonic_ns()
        if self._machine_ns is None or now_ns - self._machine_ns >= MACHINE_EVERY_NS:
            self._machine_ns, self._machine = now_ns, _machine(self._state_dir)
        return self._machine

    def _evidence(self, archive: Archive) -> dict[str, Any]:
        files = sum(tuple(archive.files.values()))
        return {"files": files, "bytes": archive.bytes, "max_bytes": self._max_evidence_bytes}


def _since(total: Mapping[str, float] | None, before: Mapping[str, float] | None) -> Mapping[str, float] | None:
    if total is None or before is None:
        return total
    return {key: round(value - before.get(key, 0.0), 3) for key, value in total.items()}


def _machine(state_dir: Path) -> dict[str, Any]:
    found = machine.throttling()
    resident_bytes = machine.resident_bytes(os.getpid())
    try:
        free_bytes: int | None = shutil.disk_usage(state_dir).free
    except OSError:
        free_bytes = None
    return {
        "temperature_c": max((celsius for _, celsius in machine.temperatures()), default=None),
        "throttled": None if found is None else list(found.now),
        "clock_synced": clock_synced(),
        "rss_mb": None if resident_bytes is None else resident_bytes >> 20,
        "disk_free_mb": None if free_bytes is None else free_bytes >> 20,
    }
