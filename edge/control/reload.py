"""The settings of a running node, and the one place that changes them: configuration, thresholds, cameras.

A change is made as a whole or not at all. The inspection loop carries it out between two frames and calls back at that
moment, so that every event names the configuration and the model that decided it. Only one change runs at a time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from edge import __version__, config, event
from edge.camera.opening import OPENING_KEYS, needs_new_process
from edge.camera.supervisor import Supervisor
from edge.config import diff, overrides
from edge.config.diff import Difference
from edge.control.effective_config import EffectiveConfig, effective_config
from edge.control.loaded_model import LoadedModel
from edge.control.mqtt_commands import Commands
from edge.control.startup import Prepared, active, session_of, shadow_of
from edge.coverage.coil_judge import CoilJudge, JudgeRules
from edge.coverage.severity import Severities
from edge.delivery.mqtt.publisher import Publisher
from edge.delivery.mqtt.topics import Topics
from edge.delivery.output import NodeProperties
from edge.delivery.outputs import Outputs
from edge.delivery.recorder import Recorder
from edge.errors import BundleError, CommandError, ConfigError
from edge.host.clock import Clock, stamp
from edge.host.redact import redact
from edge.pipeline.event_latency import EventLatency
from edge.pipeline.orders import OrderQueue, Reconfigure, SetThresholds
from edge.vision.anomaly import of_camera
from edge.vision.taught_classes import classes_of
from edge.vision.thresholds import Thresholds

log = logging.getLogger(__name__)

ORDER_S: Final = 3.0
"""How long an order may wait for the inspection loop."""
MAX_PROBLEMS: Final = 20
"""Problems of a refused configuration that one event lists."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The parts that a change of the node has to reach."""

    orders: OrderQueue
    cameras: Supervisor
    recorder: Recorder
    publisher: Publisher
    commands: Commands
    trail: EventLatency
    outputs: Outputs
    judge: CoilJudge | None = None
    """None: there are no records of coils."""


class Node:
    """The state of one node.

    Its attributes change only in its own methods. Any thread may call them; `note_state` and `forget` belong to the
    inspection loop.
    """

    def __init__(
        self,
        prepared: Prepared,
        origin: event.Origin,
        topics: Topics,
        reach: Reach,
        clock: Clock,
        path: Path | None,
        more_status: Callable[[], Mapping[str, Any]] = dict,
        order_s: float = ORDER_S,
    ) -> None:
        """path: of the configuration file; None: there is none.  more_status: further fields of the status message.

        order_s: how long an order may wait for the inspection loop.
        """
        self.settings = prepared.effective.settings
        self.configured = prepared.effective.configured
        """The settings without the thresholds that commands set."""
        self.overrides = prepared.effective.overrides
        self.origin = origin
        self.model = prepared.effective.model
        self.previous = prepared.previous
        """The model to go back to, while the one that decides is a canary."""
        self.since = stamp(clock.wall_ns())
        self._topics = topics
        self._reach = reach
        self._clock = clock
        self._path = path
        self._more_status = more_status
        self._order_s = order_s
        self._change_lock = threading.RLock()
        self._origin_lock = threading.Lock()
        self._states_lock = threading.Lock()
        self._states: dict[str, dict[str, Any]] = {}

    # ---- state ---------------------------------------------------------------------------------------

    @property
    def states(self) -> dict[str, dict[str, Any]]:
        """The latest state message of each camera."""
        with self._states_lock:
            return dict(self._states)

    def note_state(self, camera: str, message: dict[str, Any]) -> None:
        """Send a camera's new state to the broker and to all outputs."""
        with self._states_lock:
            self._states[camera] = message
        self._reach.publisher.retain(self._topics.state(camera), message)
        self._reach.outputs.state(camera, message)

    def forget(self, camera: str) -> None:
        """A camera is removed: delete its retained messages."""
        with self._states_lock:
            self._states.pop(camera, None)
        for topic in (self._topics.state(camera), self._topics.coverage(camera)):
            self._reach.publisher.forget(topic)
        log.info("camera %s is removed", camera)

    @property
    def info(self) -> dict[str, str]:
        """Version, node and model, for the metrics."""
        model = self.origin.model
        return {"version": __version__, "node": self.settings.node, "model": f"{model['name']} {model['version']}"}

    @property
    def more_status(self) -> Mapping[str, Any]:
        """Further fields of the status message: what slows the machine down, and the page."""
        return self._more_status()

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        """How the outputs are doing, by name."""
        return self._reach.outputs.as_json()

    def announce(self) -> None:
        """Publish in the status message, and give to all outputs, what this node runs."""
        self._reach.publisher.announce(
            {
                "version": __version__,
                "since": self.since,
                "model": self.origin.model,
                "config_sha256": self.origin.config_sha256,
                "cameras": [camera.name for camera in self.settings.active_cameras],
                "outputs": self.outputs,
                **self._more_status(),
            }
        )
        model = self.origin.model
        self._reach.outputs.set_properties(
            NodeProperties(__version__, self.origin.config_sha256, model["name"], model["version"], model["sha256"])
        )

    def report(self, kind: event.EventType, detail: dict[str, Any]) -> None:
        """Record an event about the node itself."""
        self._reach.recorder.put(event.Event.now(self._clock, event.NODE_CAMERA, kind, detail))

    # ---- changes -------------------------------------------------------------------------------------

    @contextmanager
    def changing(self, *, wait: bool = True) -> Iterator[bool]:
        """Keep other changes out of this block.  Gives False when another one runs and `wait` is false."""
        is_ours = self._change_lock.acquire(blocking=wait)
        try:
            yield is_ours
        finally:
            if is_ours:
                self._change_lock.release()

    def use_model(self, model: LoadedModel, previous: LoadedModel | None) -> None:
        """From now on events name this model.  previous: the one to go back to, while `model` is a canary."""
        self.model, self.previous = model, previous
        self._change_origin(model=model.identity)

    def drop_previous_model(self) -> None:
        """There is nothing to go back to any more."""
        self.previous = None

    def _use_settings(self, settings: config.Config) -> None:
        """From now on events carry the hash of these settings."""
        self.settings = settings
        self._change_origin(config_sha256=settings.sha256)

    def _change_origin(self, **changed: Any) -> None:
        with self._origin_lock:  # the inspection loop may do so while another thread makes a change
            self.origin = replace(self.origin, **changed)
            self._reach.recorder.set_origin(self.origin)

    # ---- thresholds ----------------------------------------------------------------------------------

    def set_thresholds(self, name: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Override thresholds of a camera's configuration, kept over restarts.  Raises CommandError."""
        with self.changing():
            if name not in {camera.name for camera in self.configured.active_cameras}:
                raise CommandError("unknown_camera", f"no camera {name!r} is inspected here")
            camera = next(camera for camera in self.configured.active_cameras if camera.name == name)
            try:
                classes = classes_of(camera, self.model.classifier.card)
            except ConfigError as error:  # taught classes were taken back, and the node has not read that yet
                raise CommandError("failed", f"{error.problems[0]}: reload first") from error
            unknown = sorted(set(wanted.get("classes") or {}) - set(classes))
            if unknown:
                reason = f"not a class of the model, which knows {', '.join(classes)}"
                raise CommandError("bad_value", f"classes.{unknown[0][:80]}: {reason}")
            changed = overrides.merged(self.overrides, name, wanted)
            try:
                settings = overrides.adjusted(self.configured, changed)
            except ValueError as error:
                raise CommandError("bad_value", str(error)) from None
            decision = next(c.decision for c in settings.cameras if c.name == name)
            self._save_overrides(changed)
            before, settings_before = self.origin.config_sha256, self.settings
            self._use_settings(settings)  # first: the event about the change carries the new hash
            try:
                done: dict[str, Any] = self._reach.orders.ask(SetThresholds(name, decision), self._order_s)
            except CommandError:
                self._use_settings(settings_before)
                self._save_overrides(self.overrides)
                raise
            self.overrides = changed
            self.announce()
            log.info("thresholds of camera %s: %s; kept over restarts", name, changed.get(name, {}))
            return {
                **done,
                "thresholds": {key: getattr(decision, key) for key in overrides.KEYS},
                "set": changed.get(name, {}),
                "config_sha256": settings.sha256,
                "config_sha256_before": before,
            }

    def _save_overrides(self, changed: overrides.Changes) -> None:
        try:
            overrides.save(self.configured.state_dir, changed)
        except OSError as error:
            raise CommandError("failed", f"thresholds cannot be kept: {error.strerror}: nothing was changed") from error

    # ---- coils ---------------------------------------------------------------------------------------

    def release_coil(self, coil: str, by: str, grade: str | None, reason: str | None) -> dict[str, Any]:
        """A person releases a coil that has ended.  Raises CommandError."""
        if self._reach.judge is None:
            raise CommandError("unsupported", "this node keeps no records of coils: coils.enabled in its configuration")
        return self._reach.judge.release(coil, by, grade, reason)

    # ---- the configuration ---------------------------------------------------------------------------

    def reload(self) -> dict[str, Any]:
        """Read the configuration again and take over what a running node can.  Returns what changed.

        Raises ConfigError, BundleError, CommandError: then nothing was changed, an event `config.refused` states why.
        """
        with self.changing():
            try:
                return self._take_over(self._read())
            except (ConfigError, BundleError, CommandError) as error:
                self._report_refused(error)
                raise

    def _read(self) -> EffectiveConfig:
        if self._path is None:
            raise CommandError("unsupported", "this node was started without a configuration file")
        return effective_config(config.load(self._path), self._clock, model=self.model, running=self.configured)

    def _take_over(self, wanted: EffectiveConfig) -> dict[str, Any]:
        settings = wanted.settings
        active(settings)
        found = diff.compare(self.settings, settings, opening_keys=OPENING_KEYS, needs_new_process=needs_new_process)
        found = replace(found, needs_restart=wanted.needs_restart)
        by_name = {camera.name: camera for camera in settings.active_cameras}
        fresh = (*found.added, *found.reopened, *found.looked_at)
        cameras = {name: session_of(by_name[name], self.model.classifier, self._clock).settings for name in fresh}
        self._check_models(by_name.values())
        is_same = settings.model.shadow == self.settings.model.shadow and replace(found, settings=()) == Difference()
        shadow = None if is_same else shadow_of(settings, self._clock)
        before = self.origin.config_sha256
        changed = {**found.as_json(), "config_sha256": settings.sha256, "config_sha256_before": before}

        def then() -> None:
            self.configured, self.overrides = wanted.configured, wanted.overrides
            self._use_settings(settings)
            self.report("config.changed", changed)

        self._reach.trail.follow(by_name)
        thresholds = {name: by_name[name].decision for name in found.thresholds}
        order = Reconfigure(
            cameras,
            thresholds,
            names=frozenset(by_name),
            report_s=settings.report_s,
            severities=Severities(settings.products),
            replaces_shadow=not is_same,
            shadow=shadow,
            on_change=then,
        )
        self._reach.orders.ask(order, self._order_s)
        if self._reach.judge is not None:
            self._reach.judge.set_rules(JudgeRules.of(settings.products, settings.roll_table))
        self._reach.cameras.rearrange(settings.active_cameras)
        self._reach.commands.follow(settings.commands, tuple(by_name))
        logging.getLogger("edge").setLevel(settings.log.level.upper())
        if found.added or found.removed:
            self._reach.outputs.rebuild(settings)
        self.announce()
        named = {key: value for key, value in found.as_json().items() if value}
        log.info("the configuration was read again: %s", named or "nothing changed")
        return changed

    def _check_models(self, cameras: Iterable[config.Camera]) -> None:
        """Refuse what does not fit the model, or the previous one that may come back.  Raises ConfigError."""
        for camera in cameras:
            for model in (self.previous, self.model):
                if model is not None:
                    Thresholds.of(camera.decision, classes_of(camera, model.classifier.card), camera.name)
            if self.previous is not None:
                of_camera(camera, self.previous.classifier.card)

    def _report_refused(self, error: ConfigError | CommandError | BundleError) -> None:
        problems = [str(problem) for problem in error.problems] if isinstance(error, ConfigError) else [str(error)]
        reasons = [redact(problem)[:500] for problem in problems]
        log.error("the configuration was not taken over, nothing was changed: %s", "; ".join(reasons))
        more = {"more": len(reasons) - MAX_PROBLEMS} if len(reasons) > MAX_PROBLEMS else {}
        self.report("config.refused", {"problems": reasons[:MAX_PROBLEMS], **more})
