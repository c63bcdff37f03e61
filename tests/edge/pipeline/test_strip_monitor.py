"""Speed and coil of the strip, as events report them."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.inspection import Scene

from edge import config
from edge.coverage.strip_position import CoilNamed
from edge.pipeline.orders import CoilOrder

PLACED = {"scale": config.Scale(mm_per_px=0.25), "direction": "up", "offset_m": -100.0}


def test_unknown_speed_is_reported_once_and_its_return_too() -> None:
    """Once each, with the reason; positions are null until a coil starts."""
    scene = Scene({**PLACED, "mode": "parts"}, travel={"topic": "drive", "stale_s": 1.0})
    scene.drive(2.0)
    scene.play(1, 0, every_s=1.5)
    scene.play(0, 1)
    assert scene.details("speed.stale") == [
        {"silent_s": pytest.approx(1.5, abs=0.1), "reason": "the last one was negative"}
    ]
    for _ in range(3):
        scene.drive(2.0)
        scene.play(1, every_s=0.5)
    assert [detail["seconds"] for detail in scene.details("speed.restored")] == [pytest.approx(4.0, abs=0.2)]
    scene.updates.append(CoilNamed(scene.clock.monotonic_ns(), "A"))
    scene.updates.append(CoilNamed(scene.clock.monotonic_ns(), "B"))
    scene.play(1)
    opened = [event.defect for event in scene.events if event.type == "defect.opened" and event.defect]
    assert [defect.position_m is None for defect in opened] == [False, True, True, True, True, False]
    assert opened[-1].coil == "B"


def test_coil_has_its_name_while_the_speed_is_unknown() -> None:
    """The name of the coil does not depend on its speed."""
    scene = Scene({**PLACED, "mode": "parts"}, travel={"topic": "drive", "coil_topic": "coil"})
    scene.updates.append(CoilNamed(scene.clock.monotonic_ns(), "A", retained=True))
    scene.play(1)
    (opened, _) = (event.defect for event in scene.events if event.defect)
    assert opened is not None
    assert (opened.coil, opened.position_m) == ("A", None)


def test_coils_are_reported_by_topic_and_by_command() -> None:
    """The coil that ended with its length, the one that started, and by which way; the state message has it."""
    scene = Scene({**PLACED, "offset_m": 0.0}, travel={"topic": "drive"}, report_s=1.0)
    scene.drive(2.0)

    def order(action: Any, name: str | None = None) -> Any:
        return scene.order(CoilOrder(action, name))

    scene.play(0, every_s=1.0)
    assert order("start", "A")["position_m"] == 0.0
    scene.play(0, every_s=1.0)
    assert order("show")["position_m"] == pytest.approx(2.0, abs=0.05)
    scene.updates.append(CoilNamed(scene.clock.monotonic_ns(), "A"))
    scene.play(0, every_s=1.0)
    assert order("stop")["coil"] is None
    assert scene.details("coil.started") == [{"coil": "A", "position_known": True, "by": "command"}]
    assert scene.details("coil.ended") == [{"coil": "A", "length_m": pytest.approx(4.0, abs=0.1), "by": "command"}]
    scene.play(0)
    strip = scene.states[-1][1]["strip"]
    assert (strip["speed"], strip["speed_m_per_s"], strip["coil"], strip["position_m"]) == ("known", 2.0, None, None)
