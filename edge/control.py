"""What commands do: each verb carried out on the running node, by the thread that owns what it touches."""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

from edge import __version__, config, line, overrides
from edge.clock import NS_PER_S, Clock, stamp
from edge.delivery.commands import (
    Commands,
    DeadLetters,
    Pause,
    Ping,
    Request,
    Resume,
    Set,
    Snapshot,
    State,
)
from edge.delivery.outbox import Outbox
from edge.delivery.publisher import Publisher
from edge.delivery.recorder import Recorder
from edge.errors import CommandError
from edge.picture import jpeg

log = logging.getLogger(__name__)

ORDER_S: Final = 3.0
"""For the line to come round; for a camera to give a picture."""
MAX_PICTURE_BYTES: Final = 512 * 1024
REPLY_ROOM_BYTES: Final = 2048
"""What a reply holds beside the picture."""


class Verbs:
    """Carries commands out. `perform` is for the thread `commands`; `note_state` for the line."""

    def __init__(
        self,
        configured: config.Config,
        changes: overrides.Changes,
        classes: Sequence[str],
        orders: line.Control,
        outbox: Outbox,
        recorder: Recorder,
        publisher: Publisher,
        commands: Commands,
        clock: Clock,
        *,
        on_settings: Callable[[config.Config], None],
    ) -> None:
        """configured: without the changes that commands have made.  on_settings: told which settings hold from then."""
        self._configured = configured
        self._classes = tuple(classes)
        self._orders = orders
        self._outbox = outbox
        self._recorder = recorder
        self._publisher = publisher
        self._commands = commands
        self._clock = clock
        self._on_settings = on_settings
        self._changes = dict(changes)
        self._settings = overrides.adjusted(configured, self._changes)
        self._started_ns = clock.monotonic_ns()
        self._since = stamp(clock.wall_ns())
        self._lock = threading.Lock()
        self._states: dict[str, dict[str, Any]] = {}

    def note_state(self, camera: str, message: dict[str, Any]) -> None:
        """The latest state message of a camera."""
        with self._lock:
            self._states[camera] = message

    def perform(self, request: Request) -> dict[str, Any]:
        """Carry out; what to answer.  Raises CommandError, OutboxError."""
        match request:
            case Snapshot():
                answer = self._snapshot(request)
            case Pause(camera=camera, for_s=for_s):
                answer = self._order(line.Pause(camera, for_s))
            case Resume(camera=camera):
                answer = self._order(line.Resume(camera))
            case Set():
                answer = self._set(request)
            case DeadLetters():
                answer = self._dead_letters(request)
            case Ping():
                up_s = (self._clock.monotonic_ns() - self._started_ns) / NS_PER_S
                answer = {"version": __version__, "since": self._since, "up_s": round(up_s, 3)}
            case State():
                answer = self._state()
            case _:
                answer = self._reload()
        return answer

    @staticmethod
    def _reload() -> dict[str, Any]:
        words = "this version reads its configuration at start only: restart the service to apply it"
        raise CommandError("unsupported", words)

    def _order(self, order: line.Order) -> dict[str, Any]:
        done: dict[str, Any] = self._orders.ask(order, ORDER_S)
        return done

    def _state(self) -> dict[str, Any]:
        with self._lock:
            cameras = dict(self._states)
        link = self._publisher.snapshot()
        return {
            "version": __version__,
            "since": self._since,
            "config_sha256": self._recorder.origin.config_sha256,
            "model": self._recorder.origin.model,
            "cameras": cameras,
            "delivery": {
                "last_seq": self._outbox.last_seq,
                "waiting": link.depth + self._recorder.waiting,
                "dropped": self._outbox.dropped + self._recorder.dropped,
                "dead_letters": self._outbox.refused,
                "connections": link.connections,
                "protocol": link.protocol,
                "replayed": link.replayed,
                "last_error": None if link.last_error is None else config.redact(link.last_error)[:500],
            },
            "commands": {**asdict(self._commands.counts), "unheard": self._publisher.unheard},
        }

    def _snapshot(self, request: Snapshot) -> dict[str, Any]:
        picture, number, label = self._orders.ask(line.Show(request.camera), ORDER_S)
        limit = self._publisher.packet_limit
        most = MAX_PICTURE_BYTES if limit is None else min(MAX_PICTURE_BYTES, (limit - REPLY_ROOM_BYTES) * 3 // 4)
        coded = jpeg(picture, longest_px=request.longest_px, quality=request.quality, most_bytes=most)
        return {
            "camera": request.camera,
            "frame": {"number": number, "label": label[:200]},
            "size_px": [int(picture.shape[1]), int(picture.shape[0])],
            "format": "jpeg",
            "base64": base64.b64encode(coded).decode("ascii"),
        }

    def _set(self, request: Set) -> dict[str, Any]:
        camera = next((c for c in self._configured.active_cameras if c.name == request.camera), None)
        if camera is None:
            raise CommandError("unknown_camera", f"no camera {request.camera!r} is inspected here")
        unknown = sorted(set(request.classes or {}) - set(self._classes))
        if unknown:
            known = ", ".join(self._classes)
            raise CommandError("bad_value", f"classes.{unknown[0][:80]}: not a class of the model, which knows {known}")
        changes = overrides.merged(self._changes, request.camera, request.wanted)
        try:
            settings = overrides.adjusted(self._configured, changes)
        except ValueError as error:
            raise CommandError("bad_value", str(error)) from None
        decision = next(c.decision for c in settings.cameras if c.name == request.camera)
        self._keep(changes)
        before = self._recorder.origin
        self._on_settings(settings)  # first: the event that tells of it carries the new hash
        try:
            done = self._order(line.JudgeBy(request.camera, decision))
        except CommandError:
            self._on_settings(self._settings)
            self._keep(self._changes)
            raise
        self._changes, self._settings = changes, settings
        log.info("thresholds of camera %s: %s; kept over restarts", request.camera, changes.get(request.camera, {}))
        return {
            **done,
            "thresholds": {key: getattr(decision, key) for key in overrides.KEYS},
            "set": changes.get(request.camera, {}),
            "config_sha256": settings.sha256,
            "config_sha256_before": before.config_sha256,
        }

    def _keep(self, changes: overrides.Changes) -> None:
        try:
            overrides.save(self._configured.state_dir, changes)
        except OSError as error:
            raise CommandError("failed", f"thresholds cannot be kept: {error.strerror}: nothing was changed") from error

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
                    "reason": config.redact(letter.reason)[:200],
                }
                for letter in letters
            ],
        }
