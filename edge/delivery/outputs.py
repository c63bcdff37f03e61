"""All outputs of the node: which there are, and how they are kept running.

Each output has a supervisor, a thread `output-NAME`: it builds the output, gives it the newest values, watches its
thread, and builds it anew with growing delays after a failure. The threads of the node only leave values here, so an
output can neither block them nor raise into them. A thread cannot be killed: an output that hangs is left behind, and
beyond a limit of such threads no new one is made.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from edge.config import Config
from edge.coverage.strip_position import StripReading
from edge.coverage.strip_trace import StripTrace
from edge.delivery.frame_tap import FrameTap
from edge.delivery.output import CameraReport, Events, NodeProperties, NodeStatus, Output, OutputContext
from edge.delivery.page_life import PageLife
from edge.host.backoff import Backoff
from edge.host.clock import NS_PER_S, Clock, stamp
from edge.host.log_throttle import LogThrottle
from edge.host.redact import redact
from edge.host.watchdog import LIMIT_S, Watchdog
from edge.host.worker import Worker

log = logging.getLogger(__name__)

OutputState = Literal["running", "restarting"]

MAX_ERROR_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class OutputStatus:
    """How one output is doing, for the status message, metrics and the doctor."""

    name: str
    state: OutputState
    since_ns: int
    """Monotonic, since when it is in this state."""
    restarts: int
    """Since the start of the node."""
    last_error: str | None
    """Why it was restarted last, without credentials."""


@dataclass(frozen=True, slots=True)
class OutputKind:
    """One row of the registry.  name: of the output's thread, and of its configuration section without `section`."""

    name: str
    is_enabled: Callable[[Config], bool]
    build: Callable[[OutputContext], Output]
    """Called on the supervisor's thread; may import, raise and take its time."""
    reads_events: bool = True
    """The outbox keeps events for this output, also before it is built; it then holds what it needs itself."""
    reads_status: bool = False
    """The output has a use for `set_node`."""
    section: str = ""
    """Its configuration section, where that has another name."""


def _sparkplug(context: OutputContext) -> Output:
    from edge.delivery.sparkplug.output import SparkplugOutput  # noqa: PLC0415 (protobuf only where it is used)

    return SparkplugOutput.of(context)


def _coils(context: OutputContext) -> Output:
    from edge.delivery.coils.output import CoilsOutput  # noqa: PLC0415 (as the others)

    return CoilsOutput(context, context.trace)


def _page(context: OutputContext) -> Output:
    from edge.delivery.page.output import PageOutput  # noqa: PLC0415 (OpenCV only where it is used)

    return PageOutput.of(context)


OUTPUTS: Final[list[OutputKind]] = [
    OutputKind("sparkplug", lambda settings: settings.sparkplug.enabled, _sparkplug),
    OutputKind("coils", lambda settings: settings.coils.enabled, _coils),
    OutputKind(
        "page",
        lambda settings: settings.web.listen is not None,
        _page,
        reads_events=False,
        reads_status=True,
        section="web",
    ),
]
"""Every output there is.  A new one is a package in `delivery`, a configuration section and a row."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When an output counts as failed, and how it is restarted."""

    turn_s: float = 0.5
    """Between two checks of an output."""
    still_s: float = LIMIT_S
    """How long a heartbeat may stand still: the output's, or its supervisor's."""
    steady_s: float = 5.0
    """After a restart the output counts as running once it has lived this long."""
    stop_s: float = 1.2
    """For an output that is replaced."""
    first_delay_s: float = 1.0
    max_delay_s: float = 60.0
    max_left_behind: int = 4
    """Threads of one output that hang, before no new one is made."""


@dataclass(frozen=True, slots=True)
class _CameraState:
    camera: str
    message: Mapping[str, Any]


_Value = NodeProperties | StripReading | NodeStatus | _CameraState | CameraReport
_Key = tuple[type, str]


class _Values:
    """The newest value of each kind and camera.  Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: dict[_Key, _Value] = {}

    def set(self, value: _Value) -> _Key:
        key = type(value), value.camera if isinstance(value, _CameraState | CameraReport) else ""
        with self._lock:
            self._newest[key] = value
        return key

    def get(self, key: _Key) -> _Value | None:
        with self._lock:
            return self._newest.get(key)

    def keys(self) -> list[_Key]:
        with self._lock:
            return list(self._newest)

    def keep_cameras(self, cameras: Collection[str]) -> None:
        """Forget all other cameras."""
        with self._lock:
            self._newest = {key: value for key, value in self._newest.items() if key[1] in cameras or not key[1]}


class _Failed(Exception):
    """An output must be built anew."""


class _Supervisor:
    """Keeps one output running, on the thread `output-NAME`."""

    def __init__(
        self,
        kind: OutputKind,
        context: OutputContext,
        values: _Values,
        limits: Limits,
        status: OutputStatus,
        left_behind: Output | None,
    ) -> None:
        """left_behind: an output whose supervisor hung; to be stopped first."""
        self.kind = kind
        self.status = status
        self.output: Output | None = None
        """The one that runs."""
        self.is_drained = False
        """The output has sent everything before it stopped."""
        self._left_behind = left_behind
        self._context = context
        self._clock = context.clock
        self._values = values
        self._limits = limits
        self._backoff = Backoff(limits.first_delay_s, limits.max_delay_s)
        self._lock = threading.Lock()
        self._fresh: dict[_Key, None] = {}
        """Values that the output does not have yet, in the order of change."""
        self._has_events = False
        self._is_replaced = False
        """The output is to be built anew, from another configuration."""
        self._news = threading.Event()
        self._stop_ns: int | None = None
        self._worker = Worker(f"output-{kind.name}", self._run, context.clock)

    # ---- any thread ----------------------------------------------------------------------------------

    def start(self) -> None:
        self._worker.start()

    def put(self, key: _Key) -> None:
        with self._lock:
            self._fresh[key] = None
        self._news.set()

    def wake(self) -> None:
        self._has_events = True
        self._news.set()

    def rebuild(self, settings: Config) -> None:
        with self._lock:
            self._context = replace(self._context, settings=settings)
            self._is_replaced = True
        self._news.set()

    def ask_stop(self, timeout_s: float) -> None:
        if self._stop_ns is None:
            self._stop_ns = self._clock.monotonic_ns() + int(timeout_s * NS_PER_S)
        self._worker.ask_stop()
        self._news.set()

    def join(self, timeout_s: float) -> bool:
        return self._worker.join(timeout_s)

    @property
    def name(self) -> str:
        """Of the thread."""
        return self._worker.name

    @property
    def alive(self) -> bool:
        return self._worker.alive

    @property
    def beat_ns(self) -> int:
        return self._worker.beat_ns

    # ---- the supervisor's thread ---------------------------------------------------------------------

    def _run(self) -> None:
        if self._left_behind is not None:
            self._leave(self._left_behind)
        while not self._worker.is_stopping:
            try:
                self._run_output()
            except Exception as error:  # noqa: BLE001 (whatever an output raises ends that output only)
                if self._worker.is_stopping:
                    return
                delay_s = self._backoff.next_s()
                self._record(error, delay_s)
                self._rest(delay_s)

    def _run_output(self) -> None:
        """Run one output from its build to its stop.  Raises what made it fail."""
        self._refuse_if_many_hang()
        with self._lock:
            context, self._is_replaced = self._context, False
        self.output = output = self.kind.build(context)
        try:
            output.start()
            self._serve(output)
        except Exception:
            self._leave(output)
            raise
        if self._worker.is_stopping:
            self.is_drained = output.stop(max(0.0, self._left_s()))
        else:
            self._leave(output)

    def _serve(self, output: Output) -> None:
        """Feed and check one output until a stop or a rebuild is asked for.  Raises _Failed, or what it raises."""
        watchdog = Watchdog(lambda: {self.kind.name: output}, self._clock, self._limits.still_s)
        started_ns = self._clock.monotonic_ns()
        with self._lock:
            self._fresh = dict.fromkeys(self._values.keys())
        self._has_events = True
        while True:
            self._worker.beat()
            self._news.clear()
            self._feed(output)
            if self._worker.is_stopping:
                output.ask_stop(max(0.0, self._left_s()))
                return
            if self._is_replaced:
                return
            if not output.alive:
                raise _Failed("its thread has ended")
            stuck = watchdog.check()
            if stuck is not None:
                log.error("the thread %s stands still at\n%s", stuck.name, stuck.stack)
                raise _Failed(f"its thread has not moved for {stuck.still_s:.0f} s")
            if self._clock.monotonic_ns() - started_ns >= self._limits.steady_s * NS_PER_S:
                self._is_steady()
            self._news.wait(self._limits.turn_s)

    def _feed(self, output: Output) -> None:
        with self._lock:
            fresh, self._fresh = self._fresh, {}
        for key in fresh:
            match self._values.get(key):
                case NodeProperties() as properties:
                    output.set_properties(properties)
                case StripReading() as reading:
                    output.set_strip(reading)
                case NodeStatus() as status:
                    output.set_node(status)
                case _CameraState(camera, message):
                    output.state(camera, message)
                case CameraReport() as report:
                    output.report(report)
                case None:
                    pass  # the camera was removed meanwhile
        if self._has_events:
            self._has_events = False
            output.wake()

    def _is_steady(self) -> None:
        if self.status.state == "restarting":
            self._backoff.reset()
            self.status = replace(self.status, state="running", since_ns=self._clock.monotonic_ns())
            log.info("the output %s runs again", self.kind.name)

    def _refuse_if_many_hang(self) -> None:
        hanging = sum(thread.name in (self.kind.name, self.name) for thread in threading.enumerate()) - 1
        if hanging >= self._limits.max_left_behind:
            raise _Failed(f"{hanging} of its threads hang; only a restart of the node ends them")

    def _leave(self, output: Output) -> None:
        """Stop an output that failed or is replaced; one that does not stop is left behind."""
        limit_s = self._limits.stop_s
        for stop in (lambda: output.ask_stop(limit_s), lambda: output.stop(limit_s)):
            try:
                stop()
            except Exception as error:  # noqa: BLE001 (the output is given up in any case)
                log.warning("the output %s cannot be stopped: %s", self.kind.name, _described(error))
        if any(thread.name == self.kind.name for thread in threading.enumerate()):
            log.error("a thread %s hangs and is left behind", self.kind.name)

    def _record(self, error: Exception, delay_s: float) -> None:
        before = self.status
        since_ns = before.since_ns if before.state == "restarting" else self._clock.monotonic_ns()
        self.status = OutputStatus(before.name, "restarting", since_ns, before.restarts + 1, _described(error))
        log.error(
            "the output %s has failed: %s; it is started again in %.1f s, inspection goes on",
            self.kind.name,
            self.status.last_error,
            delay_s,
            exc_info=None if isinstance(error, _Failed) else error,
        )

    def _rest(self, delay_s: float) -> None:
        until_ns = self._clock.monotonic_ns() + int(delay_s * NS_PER_S)
        while (left_ns := until_ns - self._clock.monotonic_ns()) > 0:
            self._worker.beat()
            if self._worker.wait_for_stop(min(left_ns / NS_PER_S, self._limits.turn_s)):
                return

    def _left_s(self) -> float:
        return 0.0 if self._stop_ns is None else (self._stop_ns - self._clock.monotonic_ns()) / NS_PER_S


class Outputs:
    """All outputs that the configuration enables.  No method but `stop` waits, none raises what an output raises."""

    def __init__(
        self,
        settings: Config,
        events: Events,
        clock: Clock,
        kinds: list[OutputKind] = OUTPUTS,
        limits: Limits = Limits(),
        tap: FrameTap | None = None,
        page_life: PageLife | None = None,
        trace: StripTrace | None = None,
    ) -> None:
        """tap: frames with their verdicts.  page_life: gets the signs of life of the page process.

        trace: what the inspection loop notes along the strip.
        """
        self._context = OutputContext(
            settings,
            events,
            clock,
            events.last_seq + 1,
            tap or FrameTap(),
            page_life or PageLife(),
            trace or StripTrace(),
        )
        self._clock = clock
        self._kinds = kinds
        self._limits = limits
        self._values = _Values()
        self._supervisors: tuple[_Supervisor, ...] = ()
        """Replaced as a whole, so that any thread may iterate it."""
        self._changing = threading.Lock()
        self._is_stopping = False
        self._throttle = LogThrottle(log)
        self._watchdog = Watchdog(lambda: {each.name: each for each in self._supervisors}, clock, limits.still_s)
        self._supervisors = tuple(self._supervisor(kind) for kind in kinds if kind.is_enabled(settings))
        for supervisor in self._supervisors:
            self._hold_all(supervisor.kind)
        self._reported = self._summary()

    def start(self) -> None:
        for supervisor in self._supervisors:
            self._start(supervisor)

    # ---- values, from any thread ---------------------------------------------------------------------

    def wake(self) -> None:
        """The outbox holds new events."""
        for supervisor in self._supervisors:
            supervisor.wake()

    def set_properties(self, properties: NodeProperties) -> None:
        self._put(properties)

    def set_strip(self, reading: StripReading) -> None:
        self._put(reading)

    @property
    def wants_status(self) -> bool:
        """Whether an output has a use for `set_node`."""
        return any(supervisor.kind.reads_status for supervisor in self._supervisors)

    def set_node(self, status: NodeStatus) -> None:
        self._put(status)

    def state(self, camera: str, message: Mapping[str, Any]) -> None:
        """message: the camera's state message, as published."""
        self._put(_CameraState(camera, message))

    def report(self, report: CameraReport) -> None:
        self._put(report)

    def _put(self, value: _Value) -> None:
        key = self._values.set(value)
        for supervisor in self._supervisors:
            supervisor.put(key)

    # ---- keeping them running ------------------------------------------------------------------------

    def rebuild(self, settings: Config) -> None:
        """Build all outputs anew after a reload: an output knows its cameras from its start on."""
        with self._changing:
            self._context = replace(self._context, settings=settings)
            self._values.keep_cameras([camera.name for camera in settings.active_cameras])
            kept = {each.kind.name: each for each in self._supervisors if each.kind.is_enabled(settings)}
            fresh = [
                self._supervisor(kind) for kind in self._kinds if kind.is_enabled(settings) and kind.name not in kept
            ]
            for supervisor in self._supervisors:
                if supervisor.kind.name in kept:
                    supervisor.rebuild(settings)
                else:
                    supervisor.ask_stop(self._limits.stop_s)
                    self._context.events.release(supervisor.kind.name)
            self._supervisors = (*kept.values(), *fresh)
            for supervisor in fresh:
                self._hold_all(supervisor.kind)
                self._start(supervisor)

    def supervise(self) -> bool:
        """Replace supervisors that hang in a call or have ended.  Returns whether an output changed its state."""
        with self._changing:
            stuck = self._watchdog.check()
            for supervisor in () if self._is_stopping else self._supervisors:
                if stuck is not None and stuck.name == supervisor.name:
                    log.error(
                        "the output %s hangs in a call and is left behind at\n%s", supervisor.kind.name, stuck.stack
                    )
                    self._replace(supervisor, f"a call has not returned for {stuck.still_s:.0f} s")
                elif not supervisor.alive:
                    self._replace(supervisor, "its supervisor has ended")
        before, self._reported = self._reported, self._summary()
        return self._reported != before

    def ask_stop(self, timeout_s: float) -> None:
        """Start to stop all outputs: each sends what is left within that time."""
        self._is_stopping = True
        for supervisor in self._supervisors:
            supervisor.ask_stop(timeout_s)

    def stop(self, timeout_s: float) -> bool:
        """Stop and wait.  False when an output has not sent all events: they follow after the next start."""
        self.ask_stop(timeout_s)
        until_ns = self._clock.monotonic_ns() + int((timeout_s + 1.0) * NS_PER_S)
        for supervisor in self._supervisors:
            if not supervisor.join(max(0.0, (until_ns - self._clock.monotonic_ns()) / NS_PER_S)):
                log.warning("the output %s does not stop and is left behind", supervisor.kind.name)
            elif not supervisor.is_drained:
                log.info("some events reach the output %s after the next start", supervisor.kind.name)
        return all(supervisor.is_drained for supervisor in self._supervisors)

    def status(self) -> tuple[OutputStatus, ...]:
        return tuple(supervisor.status for supervisor in self._supervisors)

    def as_json(self) -> dict[str, dict[str, Any]]:
        """The status of all outputs, by name, for the status message."""
        now_ns, wall_ns = self._clock.monotonic_ns(), self._clock.wall_ns()
        return {
            status.name: {
                "state": status.state,
                "since": stamp(wall_ns - (now_ns - status.since_ns)),
                "restarts": status.restarts,
                "last_error": status.last_error,
            }
            for status in self.status()
        }

    def _hold_all(self, kind: OutputKind) -> None:
        if kind.reads_events:
            self._context.events.hold(kind.name, 0)

    def _supervisor(
        self, kind: OutputKind, status: OutputStatus | None = None, left_behind: Output | None = None
    ) -> _Supervisor:
        status = status or OutputStatus(kind.name, "running", self._clock.monotonic_ns(), 0, None)
        return _Supervisor(kind, self._context, self._values, self._limits, status, left_behind)

    def _replace(self, hanging: _Supervisor, error: str) -> None:
        before = hanging.status
        since_ns = before.since_ns if before.state == "restarting" else self._clock.monotonic_ns()
        status = OutputStatus(before.name, "restarting", since_ns, before.restarts + 1, error)
        fresh = self._supervisor(hanging.kind, status, hanging.output)
        hanging.ask_stop(0.0)  # should it ever return
        self._supervisors = tuple(fresh if each is hanging else each for each in self._supervisors)
        self._start(fresh)

    def _start(self, supervisor: _Supervisor) -> None:
        try:
            supervisor.start()
        except RuntimeError as error:  # `supervise` tries again
            words = f"the output {supervisor.kind.name} cannot be started: {error}"
            self._throttle.write(logging.ERROR, words, self._clock.monotonic_ns())

    def _summary(self) -> tuple[tuple[object, ...], ...]:
        return tuple((status.name, status.state, status.restarts, status.last_error) for status in self.status())


def _described(error: Exception) -> str:
    words = str(error) if isinstance(error, _Failed) else f"{type(error).__name__}: {error}"
    return redact(words)[:MAX_ERROR_CHARS]
