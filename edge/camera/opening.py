"""How a configured camera is opened: what its process is started with, and which changes need a new process."""

from __future__ import annotations

from typing import Final

from edge.camera.sources.contract import COMMON_SETTINGS, SourceSpec
from edge.camera.sources.registry import SETTINGS, find, is_live
from edge.config import Camera

OPENING_KEYS: Final = frozenset(("source", "live", "ring_frames")) | SETTINGS
"""Keys of a camera that concern how it is opened, and nothing else."""


def spec_of(camera: Camera) -> SourceSpec:
    """What to open.  A setting that this type of source does not read keeps its default."""
    url = camera.source.get_secret_value()
    settings = {key: getattr(camera, key) for key in COMMON_SETTINGS | find(url).settings}
    return SourceSpec(url, live=is_live(url, camera.live), **settings)


def needs_new_process(one: Camera, other: Camera) -> bool:
    """Whether the process that runs for `one` cannot go on for `other`."""
    return spec_of(one) != spec_of(other) or one.ring_frames != other.ring_frames
