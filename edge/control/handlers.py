"""What commands do: each verb is carried out on the running node, by the thread that owns what it touches."""

from __future__ import annotations

import base64
import hashlib
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from edge import __version__
from edge.control.model_rollout import ModelRollout
from edge.control.mqtt_commands import Commands
from edge.control.reload import ORDER_S, Node
from edge.control.requests import (
    Coil,
    CoilRelease,
    DeadLetters,
    Evidence,
    Model,
    Pause,
    Ping,
    Request,
    Resume,
    Set,
    Snapshot,
    State,
)
from edge.delivery.mqtt.publisher import Publisher
from edge.delivery.outbox.store import Outbox
from edge.delivery.recorder import Recorder
from edge.errors import BundleError, CommandError, ConfigError, EvidenceError
from edge.evidence import archive
from edge.host.clock import NS_PER_S, Clock, stamp
from edge.host.redact import redact
from edge.pipeline import orders
from edge.vision.drawing import decoded, jpeg

log = logging.getLogger(__name__)

MAX_PICTURE_BYTES: Final = 512 * 1024
REPLY_OVERHEAD_BYTES: Final = 2048
"""What a reply holds beside the picture."""
_EVIDENCE_CODES: Final = {"path": "bad_value", "gone": "gone", "damaged": "gone"}


class CommandHandlers:
    """Carries commands out; any thread may call `perform`."""

    def __init__(
        self,
        node: Node,
        rollout: ModelRollout,
        queue: orders.OrderQueue,
        outbox: Outbox,
        recorder: Recorder,
        publisher: Publisher,
        commands: Commands,
        clock: Clock,
    ) -> None:
        self._node = node
        self._rollout = rollout
        self._orders = queue
        self._outbox = outbox
        self._recorder = recorder
        self._publisher = publisher
        self._commands = commands
        self._clock = clock
        self._started_ns = clock.monotonic_ns()

    def perform(self, request: Request) -> dict[str, Any]:
        """Carry out a command.  Returns the result for the reply.  Raises CommandError, OutboxError."""
        match request:
            case Snapshot():
                result = self._snapshot(request)
            case Pause() | Resume() | Coil():
                result = self._order(self._order_of(request))
            case Set():
                result = self._node.set_thresholds(request.camera, request.wanted)
            case DeadLetters():
                result = self._dead_letters(request)
            case Evidence():
                result = self._evidence(request)
            case Ping():
                up_s = (self._clock.monotonic_ns() - self._started_ns) / NS_PER_S
                result = {"version": __version__, "since": self._node.since, "up_s": round(up_s, 3)}
            case State():
                result = self._state()
            case CoilRelease(coil=coil, by=by, grade=grade, reason=reason):
                result = self._node.release_coil(coil, by, grade, reason)
            case Model():
                result = self._rollout.perform(request)
            case _:
                result = self._reload()
        return result

    def _reload(self) -> dict[str, Any]:
        try:
            return self._node.reload()
        except (ConfigError, BundleError) as error:
            raise CommandError("bad_config", str(error)) from None

    def _order(self, order: orders.Order) -> dict[str, Any]:
        done: dict[str, Any] = self._orders.ask(order, ORDER_S)
        return done

    def _order_of(self, request: Pause | Resume | Coil) -> orders.Order:
        match request:
            case Pause(camera=camera, for_s=for_s, reason=reason):
                return orders.Pause(camera, for_s, reason)
            case Resume(camera=camera):
                return orders.Resume(camera)
            case Coil(action=action, coil=name, lane=lane):
                if action == "start" and lane is not None and lane not in self._node.settings.lane_names:
                    raise CommandError("bad_value", f"no camera has a lane {lane}: cameras.lanes in the configuration")
                return orders.CoilOrder(action, name, lane)

    def _state(self) -> dict[str, Any]:
        link = self._publisher.snapshot()
        return {
            "version": __version__,
            "since": self._node.since,
            "config_sha256": self._node.origin.config_sha256,
            "model": self._node.origin.model,
            "cameras": self._node.states,
            "delivery": {
                "last_seq": self._outbox.last_seq,
                "waiting": link.depth + self._recorder.waiting,
                "dropped": self._outbox.dropped + self._recorder.dropped,
                "dead_letters": self._outbox.refused,
                "connections": link.connections,
                "protocol": link.protocol,
                "replayed": link.replayed,
                "last_error": None if link.last_error is None else redact(link.last_error)[:500],
            },
            "outputs": self._node.outputs,
            **self._node.more_status,
            "commands": {**asdict(self._commands.counts), "unheard": self._publisher.dropped_commands},
        }

    def _snapshot(self, request: Snapshot) -> dict[str, Any]:
        picture, number, label = self._orders.ask(orders.TakeSnapshot(request.camera), ORDER_S)
        max_bytes = self._max_picture_bytes()
        coded = jpeg(picture, longest_px=request.longest_px, quality=request.quality, max_bytes=max_bytes)
        return {
            "camera": request.camera,
            "frame": {"number": number, "label": label[:200]},
            "size_px": [int(picture.shape[1]), int(picture.shape[0])],
            "format": "jpeg",
            "base64": base64.b64encode(coded).decode("ascii"),
        }

    def _max_picture_bytes(self) -> int:
        limit = self._publisher.packet_limit
        return MAX_PICTURE_BYTES if limit is None else min(MAX_PICTURE_BYTES, (limit - REPLY_OVERHEAD_BYTES) * 3 // 4)

    def _evidence(self, request: Evidence) -> dict[str, Any]:
        folder = self._node.settings.evidence_dir
        try:
            if request.path is None:
                return {"pictures": _newest(folder, request)}
            data = archive.read(folder, request.path)
        except EvidenceError as error:
            raise CommandError(_EVIDENCE_CODES.get(error.cause, "failed"), str(error)) from error
        max_bytes = self._max_picture_bytes()
        sent = data if len(data) <= max_bytes else jpeg(decoded(data), longest_px=4096, quality=80, max_bytes=max_bytes)
        return {
            "path": request.path,
            "sha256": hashlib.sha256(data).hexdigest(),
            "facts": archive.facts_of(data),
            "reduced": sent is not data,
            "format": "jpeg",
            "base64": base64.b64encode(sent).decode("ascii"),
        }

    def _dead_letters(self, request: DeadLetters) -> dict[str, Any]:
        seqs = None if request.all else request.seqs
        done = 0
        if request.action == "retry":
            done = self._outbox.retry(seqs)
            self._publisher.wake()
        elif request.action == "discard":
            done = self._outbox.discard(seqs)
        letters = self._outbox.dead_letters(request.limit) if request.action == "list" else ()
        return {
            "action": request.action,
            "done": done,
            "count": self._outbox.refused,
            "letters": [
                {
                    "seq": letter.seq,
                    "event_id": letter.event_id,
                    "topic": letter.topic,
                    "refused": stamp(letter.refused_ns),
                    "code": f"0x{letter.code:02x}",
                    "reason": redact(letter.reason)[:200],
                }
                for letter in letters
            ],
        }


def _newest(folder: Path, request: Evidence) -> list[dict[str, Any]]:
    found = [
        stored
        for stored in archive.pictures(folder)
        if request.camera in (None, stored.camera) and request.kind in (None, stored.kind)
    ]
    return [
        {"path": stored.path, "size_bytes": stored.size_bytes, "facts": archive.facts(folder, stored)}
        for stored in found[: -request.limit - 1 : -1]
    ]
