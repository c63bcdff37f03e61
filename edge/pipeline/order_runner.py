"""Carries out the orders of other threads between two frames."""

from __future__ import annotations

from typing import Any

from edge.errors import CommandError, ConfigError
from edge.pipeline.camera_monitor import CameraMonitor
from edge.pipeline.orders import (
    CameraOrder,
    CoilOrder,
    Order,
    OrderQueue,
    Pause,
    PromoteModel,
    Reconfigure,
    Resume,
    SetThresholds,
    SnapshotRequests,
    TakeSnapshot,
)
from edge.pipeline.reconfiguration import ActiveSetup
from edge.pipeline.strip_monitor import StripMonitor


class OrderRunner:
    """Takes orders from the queue and gives each its answer.  Owned by the inspection loop."""

    def __init__(
        self,
        orders: OrderQueue,
        snapshots: SnapshotRequests,
        strip: StripMonitor,
        cameras: CameraMonitor,
        setup: ActiveSetup,
    ) -> None:
        self._orders = orders
        self._snapshots = snapshots
        self._strip = strip
        self._cameras = cameras
        self._setup = setup

    def run(self) -> None:
        """Carry out the waiting orders, and end the pauses that are over."""
        while (pending := self._orders.take()) is not None:
            order = pending.order
            if isinstance(order, TakeSnapshot) and order.camera in self._setup.sessions:
                self._snapshots.add(order.camera, pending)
            elif pending.claim():
                try:
                    pending.answer(self._carry_out(order))
                except CommandError as error:
                    pending.answer(error)
                except ConfigError as error:
                    pending.answer(CommandError("bad_value", str(error.problems[0])))
        self._cameras.end_pauses(self._setup.sessions.values())

    def refuse_all(self) -> None:
        """The loop ends: nobody waits for an answer that never comes."""
        while (pending := self._orders.take()) is not None:
            if pending.claim():
                pending.answer(CommandError("failed", "the node stops"))

    def _carry_out(self, order: Order) -> dict[str, Any] | None:
        """Returns the answer.  Raises CommandError or ConfigError: then nothing was changed."""
        match order:
            case CoilOrder():
                return self._strip.run_coil_order(order)
            case PromoteModel():
                self._setup.promote()
            case Reconfigure():
                self._setup.reconfigure(order)
            case _:
                return self._carry_out_at_camera(order)
        return None

    def _carry_out_at_camera(self, order: CameraOrder) -> dict[str, Any]:
        session = self._setup.sessions.get(order.camera)
        if session is None:
            raise CommandError("unknown_camera", f"no camera {order.camera!r} is inspected here")
        match order:
            case Pause(for_s=for_s, reason=reason):
                self._cameras.pause(session, for_s, reason)
            case Resume():
                self._cameras.resume(session)
            case SetThresholds(decision=decision):
                self._setup.set_thresholds(session, decision)
        return {"camera": session.name, "state": session.state.name, "paused": session.pause is not None}
