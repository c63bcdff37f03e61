"""What a running node is set to, and the one place that changes it: configuration, thresholds, cameras.

A change is made as a whole or not at all. The line carries it out between two frames and calls back at that moment,
so that every event names the configuration and the model that decided it. One change at a time, whoever asks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from edge import __version__, config, event
from edge.camera import simulator_defaults
from edge.camera.supervisor import Supervisor
from edge.config import calibration, diff, overrides
from edge.config.diff import Difference
from edge.control.mqtt_commands import Commands
from edge.control.startup import Prepared, active, session_of, shadow_of
from edge.delivery.mqtt.publisher import Publisher
from edge.delivery.mqtt.topics import Topics
from edge.delivery.outputs import Output
from edge.delivery.recorder import Recorder
from edge.errors import BundleError, CommandError, ConfigError
from edge.host.clock import Clock, stamp
from edge.host.redact import redact
from edge.model.classifier import Classifier
from edge.pipeline.event_latency import EventLatency
from edge.pipeline.orders import OrderQueue, Reconfigure, SetThresholds
from edge.vision.anomaly import of_camera
from edge.vision.decision import Thresholds

log = logging.getLogger(__name__)

ORDER_S: Final = 3.0
"""For the line to come round."""
STOP_VIEW_S: Final = 1.2
MAX_PROBLEMS: Final = 20
"""Of a refused configuration, told in one event."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Whom a change has to reach.  views: changed in place."""

    orders: OrderQueue
    cameras: Supervisor
    recorder: Recorder
    publisher: Publisher
    commands: Commands
    trail: EventLatency
    views: list[Output]
    views_of: Callable[[config.Config], Sequence[Output]]


class Node:
    """The state of one node.  Any thread may ask for a change; `note_state` and `forget` are the line's."""

    def __init__(
        self,
        prepared: Prepared,
        origin: event.Origin,
        topics: Topics,
        reach: Reach,
        clock: Clock,
        path: Path | None,
        more_status: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        """path: of the configuration file; None: there is none.  more_status: for the status message."""
        self.settings = prepared.settings
        self.configured = prepared.configured
        """The settings without what commands have changed."""
        self.changes = prepared.changes
        self.origin = origin
        self.classifier = prepared.classifier
        self.former = None if prepared.former is None else prepared.former.classifier
        """The one before, while the other is on trial."""
        self.since = stamp(clock.wall_ns())
        self._topics = topics
        self._reach = reach
        self._clock = clock
        self._path = path
        self._more_status = more_status
        self.changing = threading.RLock()
        """Held by whoever makes a change."""
        self._being = threading.Lock()
        self._noting = threading.Lock()
        self._states: dict[str, dict[str, Any]] = {}

    # ---- what is known -------------------------------------------------------------------------------

    @property
    def states(self) -> dict[str, dict[str, Any]]:
        """The latest state message of each camera."""
        with self._noting:
            return dict(self._states)

    def note_state(self, camera: str, message: dict[str, Any]) -> None:
        """A camera's state: to the broker and to all views."""
        with self._noting:
            self._states[camera] = message
        self._reach.publisher.retain(self._topics.state(camera), message)
        for view in tuple(self._reach.views):
            view.state(camera, message)

    def forget(self, camera: str) -> None:
        """A camera is no more: nothing retained speaks of it."""
        with self._noting:
            self._states.pop(camera, None)
        for topic in (self._topics.state(camera), self._topics.coverage(camera)):
            self._reach.publisher.forget(topic)
        log.info("camera %s is removed", camera)

    @property
    def info(self) -> dict[str, str]:
        """Version, node and model, for whoever scrapes metrics."""
        model = self.origin.model
        return {"version": __version__, "node": self.settings.node, "model": f"{model['name']} {model['version']}"}

    def announce(self) -> None:
        """Say in the status message and to all views what this node is."""
        self._reach.publisher.announce(
            {
                "version": __version__,
                "since": self.since,
                "model": self.origin.model,
                "config_sha256": self.origin.config_sha256,
                "cameras": [camera.name for camera in self.settings.active_cameras],
                **self._more_status(),
            }
        )
        for view in tuple(self._reach.views):
            self._describe(view)

    def _describe(self, view: Output) -> None:
        model = self.origin.model
        view.set_properties(
            {
                "Properties/Version": __version__,
                "Properties/Config SHA-256": self.origin.config_sha256,
                "Model/Name": model["name"],
                "Model/Version": model["version"],
                "Model/SHA-256": model["sha256"],
            }
        )

    def tell(self, kind: event.EventType, detail: dict[str, Any]) -> None:
        """An event about the node itself."""
        self._reach.recorder.put(event.Event.now(self._clock, event.NODE_CAMERA, kind, detail))

    def _be(self, settings: config.Config) -> None:
        """From here on events say so."""
        self.settings = settings
        self._sign(config_sha256=settings.sha256)

    def decide_by(self, classifier: Classifier, model: dict[str, str], former: Classifier | None) -> None:
        """From here on this model decides, and events say so.  former: it may still be gone back to that one."""
        self.classifier, self.former = classifier, former
        self._sign(model=model)

    def _sign(self, **origin: Any) -> None:
        with self._being:  # the line may do so while someone else makes a change
            self.origin = replace(self.origin, **origin)
            self._reach.recorder.origin = self.origin

    # ---- thresholds ----------------------------------------------------------------------------------

    def set_thresholds(self, name: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Change thresholds of a camera over its configuration, kept over restarts.  Raises CommandError."""
        with self.changing:
            if name not in {camera.name for camera in self.configured.active_cameras}:
                raise CommandError("unknown_camera", f"no camera {name!r} is inspected here")
            classes = self.classifier.card.classes
            unknown = sorted(set(wanted.get("classes") or {}) - set(classes))
            if unknown:
                words = f"not a class of the model, which knows {', '.join(classes)}"
                raise CommandError("bad_value", f"classes.{unknown[0][:80]}: {words}")
            changes = overrides.merged(self.changes, name, wanted)
            try:
                settings = overrides.adjusted(self.configured, changes)
            except ValueError as error:
                raise CommandError("bad_value", str(error)) from None
            decision = next(c.decision for c in settings.cameras if c.name == name)
            self._keep(changes)
            before, settings_before = self.origin.config_sha256, self.settings
            self._be(settings)  # first: the event that tells of it carries the new hash
            try:
                done: dict[str, Any] = self._reach.orders.ask(SetThresholds(name, decision), ORDER_S)
            except CommandError:
                self._be(settings_before)
                self._keep(self.changes)
                raise
            self.changes = changes
            self.announce()
            log.info("thresholds of camera %s: %s; kept over restarts", name, changes.get(name, {}))
            return {
                **done,
                "thresholds": {key: getattr(decision, key) for key in overrides.KEYS},
                "set": changes.get(name, {}),
                "config_sha256": settings.sha256,
                "config_sha256_before": before,
            }

    def _keep(self, changes: overrides.Changes) -> None:
        try:
            overrides.save(self.configured.state_dir, changes)
        except OSError as error:
            raise CommandError("failed", f"thresholds cannot be kept: {error.strerror}: nothing was changed") from error

    # ---- the configuration ---------------------------------------------------------------------------

    def reload(self) -> dict[str, Any]:
        """Read the configuration again and take over what a running node can.  What to tell whoever asked.

        Raises ConfigError, BundleError, CommandError: then nothing was changed, an event `config.refused` says why.
        """
        with self.changing:
            try:
                return self._take_over(self._read())
            except (ConfigError, BundleError, CommandError) as error:
                self._tell_refused(error)
                raise

    def _read(self) -> config.Config:
        if self._path is None:
            raise CommandError("unsupported", "this node was started without a configuration file")
        wanted = simulator_defaults.described(calibration.applied(config.load(self._path), self.configured.state_dir))
        active(wanted)
        return wanted

    def _take_over(self, wanted: config.Config) -> dict[str, Any]:
        configured = diff.merged(self.configured, wanted)
        changes = overrides.load(configured, self.classifier.card.classes)
        settings = overrides.adjusted(configured, changes)
        found = replace(diff.compare(self.settings, settings), needs_restart=self._needs_restart(wanted))
        by_name = {camera.name: camera for camera in settings.active_cameras}
        fresh = (*found.added, *found.reopened, *found.looked_at)
        cameras = {name: session_of(by_name[name], self.classifier, self._clock).settings for name in fresh}
        for camera in by_name.values():  # refuses what does not fit the model, or the one that may come back
            Thresholds.of(camera.decision, (self.former or self.classifier).card.classes, camera.name)
            Thresholds.of(camera.decision, self.classifier.card.classes, camera.name)
            if self.former is not None:
                of_camera(camera, self.former.card)
        is_same = settings.model.shadow == self.settings.model.shadow and found == Difference()
        shadow = None if is_same else shadow_of(settings, self._clock)
        before = self.origin.config_sha256
        told = {**found.as_json(), "config_sha256": settings.sha256, "config_sha256_before": before}

        def then() -> None:
            self.configured, self.changes = configured, changes
            self._be(settings)
            self.tell("config.changed", told)

        self._reach.trail.follow(by_name)
        thresholds = {name: by_name[name].decision for name in found.thresholds}
        order = Reconfigure(
            cameras,
            thresholds,
            names=frozenset(by_name),
            report_s=settings.report_s,
            replaces_shadow=not is_same,
            shadow=shadow,
            on_change=then,
        )
        self._reach.orders.ask(order, ORDER_S)
        self._reach.cameras.rearrange(settings.active_cameras)
        self._reach.commands.follow(settings.commands, tuple(by_name))
        logging.getLogger("edge").setLevel(settings.log.level.upper())
        if found.added or found.removed:
            self._renew_views()
        self.announce()
        named = {key: value for key, value in found.as_json().items() if value}
        log.info("the configuration was read again: %s", named or "nothing is different")
        return told

    def _needs_restart(self, wanted: config.Config) -> tuple[str, ...]:
        return diff.compare(self.configured, wanted).needs_restart

    def _renew_views(self) -> None:
        """A view knows its cameras from its begin on."""
        views = self._reach.views
        for view in views:
            view.ask_stop(STOP_VIEW_S)
        for view in views:
            view.stop(STOP_VIEW_S)
        views[:] = self._reach.views_of(self.settings)
        for view in views:
            self._describe(view)
            for camera, message in self.states.items():
                view.state(camera, message)
            view.start()

    def _tell_refused(self, error: ConfigError | CommandError | BundleError) -> None:
        problems = [str(problem) for problem in error.problems] if isinstance(error, ConfigError) else [str(error)]
        said = [redact(problem)[:500] for problem in problems]
        log.error("the configuration was not taken over, nothing was changed: %s", "; ".join(said))
        more = {"more": len(said) - MAX_PROBLEMS} if len(said) > MAX_PROBLEMS else {}
        self.tell("config.refused", {"problems": said[:MAX_PROBLEMS], **more})
