"""The state of a camera, as a table: what happened, one after the other, and what is published then."""

from __future__ import annotations

from typing import get_args

import pytest

from edge.pipeline.camera_state import STATES, CameraState, Trigger

TABLE = [
    ("", "no_signal", "opening"),
    ("opened", "running", ""),
    ("lost:cable", "no_signal", "cable"),
    ("lost:cable lost:refused", "no_signal", "refused"),
    ("opened lost:cable opened", "running", ""),
    ("opened ended", "no_signal", "end of recording"),
    ("opened removed", "no_signal", "removed"),
    ("opened removed opened", "running", ""),
    ("opened stopped", "no_signal", "stopped"),
    ("opened fault:dark", "bad_image", "dark"),
    ("opened fault:frozen", "frozen", "frozen"),
    ("opened fault:frozen fault:dark", "bad_image", "dark"),
    ("opened fault:dark restored", "running", ""),
    ("opened fault:dark lost:cable", "no_signal", "cable"),
    ("opened fault:dark lost:cable opened", "bad_image", "dark"),
    ("opened lost:cable fault:dark", "no_signal", "cable"),
    ("opened lost:cable fault:dark opened", "bad_image", "dark"),
    ("opened paused", "paused", "by a command"),
    ("paused", "no_signal", "opening"),
    ("paused opened", "paused", "by a command"),
    ("opened paused lost:cable", "no_signal", "cable"),
    ("opened paused lost:cable opened", "paused", "by a command"),
    ("opened fault:dark paused", "paused", "by a command"),
    ("opened fault:dark paused resumed", "bad_image", "dark"),
    ("opened paused resumed", "running", ""),
    ("opened drift:brightness,sharpness", "running", "drifted: brightness, sharpness"),
    ("opened drift:brightness drift", "running", ""),
    ("opened drift:brightness fault:dark", "bad_image", "dark"),
]


def played(story: str) -> CameraState:
    state = CameraState()
    for word in story.split():
        trigger, _, more = word.partition(":")
        assert trigger in get_args(Trigger)
        figures = tuple(more.split(",")) if trigger == "drift" and more else ()
        state = state.after(trigger, more, figures)  # type: ignore[arg-type]
    return state


@pytest.mark.parametrize(("story", "name", "reason"), TABLE)
def test_state_after_what_happened(story: str, name: str, reason: str) -> None:
    """No signal hides everything, a pause hides a fault of the picture, a fault hides drift; nothing is forgotten."""
    state = played(story)
    assert (state.name, state.reason) == (name, reason)


def test_every_published_state_is_reached() -> None:
    """No state is published that a camera never enters."""
    assert {played(story).name for story, _, _ in TABLE} == set(STATES)
    assert {word.partition(":")[0] for story, _, _ in TABLE for word in story.split()} == set(get_args(Trigger))
