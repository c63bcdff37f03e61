"""Outputs that fail: each is restarted and reported, and nothing else notices."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.outputs import METHODS, BlockingOutput, DyingOutput, HangingOutput, RaisingOutput, ToyOutput, kind
from fakes.waiting import until

from edge.config import Config, parse
from edge.coverage.strip_position import StripReading
from edge.delivery.output import CameraReport, NodeProperties, NodeStatus, OutputContext
from edge.delivery.outputs import OUTPUTS, Limits, OutputKind, Outputs
from edge.host.clock import NS_PER_S, SystemClock, wall_ns_of

PROPERTIES = NodeProperties("1.0", "cd" * 32, "student", "1", "ab" * 32)
STRIP = StripReading("measured", 1.5, "B1", 12.0)
STATUS = NodeStatus("2026-11-29T00:00:00.000Z", STRIP, {}, {}, {}, {}, {})
RUNNING = {"state": "running", "reason": None}
REPORT = CameraReport("top", 30.0, 1.0, 2.0, {})
LIMITS = Limits(turn_s=0.01, still_s=2.0, steady_s=0.05, stop_s=0.1, first_delay_s=0.01, max_delay_s=0.04)
STILL = Limits(turn_s=0.01, still_s=0.2, steady_s=0.05, stop_s=0.05, first_delay_s=0.01, max_delay_s=0.04)


class NoEvents:
    """An empty outbox, and what it must keep for each reader."""

    last_seq = 41

    def __init__(self) -> None:
        self.held: dict[str, int] = {}

    def after(self, _seq: int, _limit: int) -> list[Any]:
        return []

    def hold(self, reader: str, after_seq: int) -> None:
        self.held[reader] = after_seq

    def release(self, reader: str) -> None:
        self.held.pop(reader, None)

    def depth(self) -> int:
        return 0


def settings(folder: Path, *cameras: str) -> Config:
    names = [{"name": name, "source": "strip:"} for name in cameras or ("top",)]
    return parse({"node": "line3", "cameras": names}, origin="test", base=folder, env={})


class Scene:
    """Outputs of toys; `built` has every one that was made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.built: list[ToyOutput] = []
        self.outputs = self.of(ToyOutput)

    def of(self, *makes: Callable[[OutputContext], ToyOutput], limits: Limits = LIMITS) -> Outputs:
        """One output per class or function: toy, toy-2, ..."""

        def row(number: int, make: Callable[[OutputContext], ToyOutput]) -> OutputKind:
            name = f"toy-{number}" if number > 1 else "toy"

            def build(context: OutputContext) -> ToyOutput:
                output = make(context)
                output.name = output._thread.name = name
                self.built.append(output)
                return output

            return kind(build, name)

        kinds = [row(number, make) for number, make in enumerate(makes, 1)]
        self.outputs = Outputs(settings(self.folder), NoEvents(), SystemClock(), kinds, limits)
        return self.outputs

    def send_all(self) -> None:
        self.outputs.set_properties(PROPERTIES)
        self.outputs.set_strip(STRIP)
        self.outputs.set_node(STATUS)
        self.outputs.state("top", RUNNING)
        self.outputs.report(REPORT)
        self.outputs.wake()

    def supervised(self, fact: Callable[[], object]) -> None:
        """Wait for a fact as the daemon's loop does, which supervises meanwhile."""

        def holds() -> bool:
            self.outputs.supervise()
            return bool(fact())

        until(holds)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    HangingOutput.release.clear()
    BlockingOutput.release.clear()
    scene = Scene(tmp_path)
    yield scene
    HangingOutput.release.set()
    BlockingOutput.release.set()
    for output in scene.built:
        output.is_stopped.set()
    scene.outputs.stop(1.0)
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith(("toy", "output-"))], what="no threads")


def test_every_row_of_the_registry_is_a_section_of_the_configuration(tmp_path: Path) -> None:
    """Each name once; the page and the record of coils are on by default."""
    plain = settings(tmp_path)
    names = [row.name for row in OUTPUTS]
    assert len(set(names)) == len(names)
    assert all((row.section or row.name) in type(plain).model_fields for row in OUTPUTS)
    assert [row.name for row in OUTPUTS if row.is_enabled(plain)] == ["coils", "page"]


def test_an_output_receives_the_newest_values(scene: Scene) -> None:
    """Values from before the start too; new events wake it."""
    outputs = scene.outputs
    outputs.set_properties(PROPERTIES)
    outputs.start()
    until(lambda: scene.built and scene.built[0].received.get("properties") == PROPERTIES)
    scene.send_all()
    expected = {"properties": PROPERTIES, "strip": STRIP, "node": STATUS, "state top": RUNNING, "report top": REPORT}
    until(lambda: scene.built[0].received == expected)
    wakes = scene.built[0].wakes
    outputs.wake()
    until(lambda: scene.built[0].wakes > wakes)
    (status,) = outputs.status()
    assert (status.name, status.state, status.restarts, status.last_error) == ("toy", "running", 0, None)


@pytest.mark.parametrize("method", METHODS)
def test_an_output_that_raises_is_restarted(scene: Scene, method: str) -> None:
    """Whatever raises: no caller sees it, the other output goes on, and the status has the reason without secrets."""
    outputs = scene.of(lambda context: RaisingOutput(context, methods=(method, "beat_ns")), ToyOutput)
    outputs.start()
    scene.send_all()
    scene.supervised(lambda: outputs.status()[0].restarts >= 2)
    scene.send_all()
    bad, good = outputs.status()
    assert bad.state == "restarting"
    assert "rtmp://***@host fails" in str(bad.last_error)
    assert "secret" not in str(bad.last_error)
    assert (good.state, good.restarts) == ("running", 0)


def test_an_output_whose_every_method_raises_is_tried_again_and_again(scene: Scene) -> None:
    """With delays between the attempts."""
    outputs = scene.of(RaisingOutput)
    outputs.start()
    scene.send_all()
    scene.supervised(lambda: len(scene.built) >= 5)
    assert outputs.status()[0].state == "restarting"


def test_an_output_that_cannot_be_built_is_tried_again(scene: Scene) -> None:
    """A package that is not installed ends nothing else."""

    def build(_context: OutputContext) -> ToyOutput:
        raise ImportError("no module named toy")

    outputs = scene.of(build, ToyOutput)
    outputs.start()
    scene.supervised(lambda: outputs.status()[0].restarts >= 2)
    assert outputs.status()[0].last_error == "ImportError: no module named toy"
    assert outputs.status()[1].state == "running"


def test_an_output_whose_thread_dies_at_once_is_restarted(scene: Scene) -> None:
    """At every start; it stays in the state restarting meanwhile."""
    outputs = scene.of(DyingOutput)
    outputs.start()
    scene.supervised(lambda: outputs.status()[0].restarts >= 3)
    status = outputs.status()[0]
    assert (status.state, status.last_error) == ("restarting", "its thread has ended")


def test_an_output_that_recovers_runs_again_and_has_all_values(scene: Scene) -> None:
    """Its second thread lives: the newest values are given again, and the change is reported once."""
    classes = iter([DyingOutput])

    def make(context: OutputContext) -> ToyOutput:
        return next(classes, ToyOutput)(context)

    outputs = scene.of(make)
    scene.send_all()
    outputs.start()
    changes = []
    until(lambda: changes.append(outputs.supervise()) or outputs.status()[0].restarts == 1)
    until(lambda: changes.append(outputs.supervise()) or outputs.status()[0].state == "running")
    changes += [outputs.supervise() for _ in range(20)]
    assert 1 <= changes.count(True) <= 2
    expected = {"properties": PROPERTIES, "strip": STRIP, "node": STATUS, "state top": RUNNING, "report top": REPORT}
    until(lambda: scene.built[-1].received == expected)


def test_an_output_whose_thread_hangs_is_left_behind_and_restarted(scene: Scene, caplog: Any) -> None:
    """The log shows where it stands; after a limit of hanging threads no new one is made."""
    outputs = scene.of(HangingOutput, limits=STILL)
    outputs.start()
    scene.supervised(lambda: outputs.status()[0].restarts >= 2)
    assert "has not moved" in str(outputs.status()[0].last_error)
    assert "self.release.wait()" in caplog.text
    assert "left behind" in caplog.text
    scene.supervised(lambda: "only a restart of the node" in str(outputs.status()[0].last_error))
    assert len(scene.built) == STILL.max_left_behind


def test_an_output_that_blocks_in_a_call_blocks_no_caller(scene: Scene, caplog: Any) -> None:
    """Its supervisor is replaced; the other output receives everything."""
    outputs = scene.of(BlockingOutput, ToyOutput, limits=STILL)
    outputs.start()
    clock = SystemClock()
    started_ns = clock.monotonic_ns()
    for _ in range(1000):
        scene.send_all()
    assert clock.monotonic_ns() - started_ns < 5 * NS_PER_S
    scene.supervised(lambda: "has not returned" in str(outputs.status()[0].last_error))
    assert "hangs in a call" in caplog.text
    scene.supervised(lambda: any(o.name == "toy" and o.is_stopped.is_set() for o in scene.built))
    until(lambda: next(o for o in scene.built if o.name == "toy-2").received.get("report top") == REPORT)


def test_a_reload_builds_all_outputs_anew(scene: Scene) -> None:
    """With the new cameras and the newest values; this counts as no restart."""
    outputs = scene.outputs
    outputs.start()
    scene.send_all()
    outputs.state("side", RUNNING)
    until(lambda: scene.built and scene.built[0].received.get("state side"))
    outputs.rebuild(settings(scene.folder, "top", "end"))
    until(lambda: len(scene.built) == 2)
    assert scene.built[0].is_stopped.is_set()
    assert scene.built[1].cameras == ["top", "end"]
    expected = {"properties": PROPERTIES, "strip": STRIP, "node": STATUS, "state top": RUNNING, "report top": REPORT}
    until(lambda: scene.built[1].received == expected)
    assert outputs.status()[0].restarts == 0


def test_a_reload_starts_and_stops_outputs(scene: Scene) -> None:
    """As the new configuration enables them."""
    scene.outputs.stop(1.0)

    def build(context: OutputContext) -> ToyOutput:
        scene.built.append(ToyOutput(context))
        return scene.built[-1]

    row = kind(build, is_enabled=lambda settings: len(settings.cameras) > 1)
    events = NoEvents()
    outputs = scene.outputs = Outputs(settings(scene.folder), events, SystemClock(), [row], LIMITS)
    outputs.start()
    assert outputs.status() == ()
    outputs.rebuild(settings(scene.folder, "top", "end"))
    until(lambda: scene.built and scene.built[0].alive)
    assert [status.name for status in outputs.status()] == ["toy"]
    assert events.held == {"toy": 0}
    outputs.rebuild(settings(scene.folder))
    assert events.held == {}
    until(lambda: not scene.built[0].alive)
    assert outputs.status() == ()


def test_a_stop_is_clean_or_bounded(scene: Scene) -> None:
    """True when every output has sent everything; one that hangs is left behind in time."""
    outputs = scene.outputs
    outputs.start()
    until(lambda: scene.built)
    assert outputs.stop(1.0)
    assert scene.built[0].is_stopped.is_set()
    hanging = scene.of(HangingOutput)
    hanging.start()
    until(lambda: len(scene.built) == 2)
    clock = SystemClock()
    started_ns = clock.monotonic_ns()
    assert not hanging.stop(0.1)
    assert clock.monotonic_ns() - started_ns < 5 * NS_PER_S


def test_the_status_is_published_as_json(scene: Scene) -> None:
    """State, since when, restarts, last error."""
    scene.outputs.start()
    status = scene.outputs.as_json()["toy"]
    assert list(status) == ["state", "since", "restarts", "last_error"]
    assert abs(wall_ns_of(status["since"]) - SystemClock().wall_ns()) < 60 * NS_PER_S


def test_events_are_kept_for_an_output_before_it_is_built(tmp_path: Path) -> None:
    """What it has not sent is not deleted meanwhile, not even when its package fails to build for hours."""
    events = NoEvents()
    rows = [kind(ToyOutput), OutputKind("quiet", lambda _settings: True, ToyOutput, reads_events=False)]
    Outputs(settings(tmp_path), events, SystemClock(), rows)
    assert events.held == {"toy": 0}
