"""Orders to the inspection loop: bounded, answered once, never carried out after their timeout."""

from __future__ import annotations

import numpy as np
import pytest
from fakes.inspection import Scene

from edge.errors import CommandError
from edge.pipeline.orders import OrderQueue, Pause, PendingOrder, Resume, TakeSnapshot


def test_snapshot_is_a_copy_of_the_next_frame() -> None:
    """No memory of the ring leaves the loop; every waiting order gets the frame."""
    scene = Scene()
    scene.note(scene.opened())
    waiting = [scene.send(TakeSnapshot("top")), scene.send(TakeSnapshot("top"))]
    scene.loop.turn()
    scene.play(1)
    for pending in waiting:
        picture, number, label = pending.wait(1)
        assert (picture[0, 0], number, label) == (1, 0, "x.png")
        assert not np.shares_memory(picture, scene.cameras.released[0].pixels)


def test_order_for_an_unknown_camera_is_refused() -> None:
    """At once, with the reason."""
    answer = Scene().order(Resume("side"))
    assert isinstance(answer, CommandError)
    assert answer.code == "unknown_camera"


def test_orders_are_bounded_and_dropped_after_their_timeout() -> None:
    """A loop that does not come round refuses orders; an order that timed out is not carried out later."""
    scene = Scene()
    scene.note(scene.opened())
    with pytest.raises(CommandError, match="not reached"):
        scene.orders.ask(Pause("top"), 0.01)
    scene.loop.turn()
    assert scene.sessions[0].pause is None
    full = OrderQueue()
    for _ in range(8):
        full._waiting.put(PendingOrder(Resume("top")))
    with pytest.raises(CommandError, match="too many"):
        full.ask(Resume("top"), 0.01)


def test_snapshot_of_a_camera_without_frames_times_out() -> None:
    """The sender gives up, and no later frame is copied for it."""
    scene = Scene()
    with pytest.raises(CommandError, match="gives no picture"):
        scene.orders.ask(TakeSnapshot("top"), 0.01)
    scene.play(0)
    answer = scene.order(TakeSnapshot("gone"))
    assert isinstance(answer, CommandError)
    assert answer.code == "unknown_camera"
