"""The queue of notices: order, sums of losses, and a bound."""

from __future__ import annotations

import threading

import pytest

from edge.camera.notices import CameraLost, CameraRemoved, FramesLost, NoticeQueue


@pytest.fixture
def queue() -> NoticeQueue:
    changed = threading.Condition()
    with changed:
        yield NoticeQueue(changed, max_notices=3)


def test_losses_are_summed_by_camera_and_reason(queue):
    """Many small losses become one notice for each reason, after the notices in order."""
    for count in (1, 2, 3):
        queue.add_loss("a", count, "overflow")
    queue.add_loss("a", 5, "stale")
    queue.put(CameraLost("b", 7, "gone"))
    assert queue
    assert queue.take() == (CameraLost("b", 7, "gone"), FramesLost("a", 6, "overflow"), FramesLost("a", 5, "stale"))
    assert not queue
    assert queue.take() == ()


def test_losses_of_a_removed_camera_come_before_its_last_notice(queue):
    """After CameraRemoved nothing is reported of that camera; the losses of others stay sums."""
    queue.add_loss("a", 2, "no_slot")
    queue.add_loss("b", 4, "no_slot")
    queue.put_last(CameraRemoved("a", 9))
    assert queue.take() == (FramesLost("a", 2, "no_slot"), CameraRemoved("a", 9), FramesLost("b", 4, "no_slot"))


def test_queue_that_is_not_taken_keeps_the_newest_notices_and_every_loss(queue):
    """A consumer that hangs does not make the daemon grow, and no lost frame is forgotten."""
    for n in range(10):
        queue.put(CameraLost("a", n, ""))
        queue.add_loss("a", 1, "overflow")
    assert queue.take() == (*(CameraLost("a", n, "") for n in (7, 8, 9)), FramesLost("a", 10, "overflow"))
