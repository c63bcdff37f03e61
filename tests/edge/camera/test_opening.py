"""How a configured camera is opened, and which changes need a new process."""

from __future__ import annotations

from typing import Any

import pytest

from edge.camera.opening import OPENING_KEYS, needs_new_process, spec_of
from edge.camera.sources.contract import SourceSpec
from edge.camera.sources.registry import SETTINGS, find
from edge.config import Camera
from edge.config.diff import BESIDE

SOURCE_URLS = ("strip:", "0", "rtsp://h/x", "a.mp4")
OTHER_VALUES = {
    "fps": 7,
    "loop": True,
    "width": 320,
    "height": 64,
    "pixel_format": "GREY",
    "exposure": 3.0,
    "gain": 2.0,
    "rtsp_transport": "udp",
    "open_timeout_s": 9.0,
    "read_timeout_s": 9.0,
}


def camera(source: str, **keys: Any) -> Camera:
    return Camera.model_validate({"name": "a", "source": source, **keys})


def test_every_setting_of_a_source_is_a_key_of_a_camera_and_reaches_the_spec():
    """No key of the configuration is forgotten on the way: some type of source reads each of them."""
    fields = set(SourceSpec.__dataclass_fields__) - {"url", "skip"}  # the supervisor knows how far a recording came
    assert fields <= set(Camera.model_fields)
    assert fields - {"live"} == SETTINGS
    assert set(OTHER_VALUES) == SETTINGS


def test_spec_has_what_the_configuration_states():
    """The settings that the type of source reads, and whether its frames can wait."""
    spec = spec_of(camera("0", fps=12, gain=3.5, pixel_format="GREY"))
    assert spec == SourceSpec("0", fps=12, live=True, gain=3.5, pixel_format="GREY")
    assert not spec_of(camera("0", live=False)).live


@pytest.mark.parametrize("key", sorted(SETTINGS))
@pytest.mark.parametrize("source", SOURCE_URLS)
def test_a_change_needs_a_new_process_only_if_the_source_reads_the_key(source, key):
    """Exposure concerns a device and no stream; the timeouts concern every source."""
    reads = key in find(source).settings or key in ("fps", "open_timeout_s", "read_timeout_s")
    assert needs_new_process(camera(source), camera(source, **{key: OTHER_VALUES[key]})) == reads


def test_another_source_or_ring_needs_a_new_process():
    """The process has its source and the size of its ring from the start."""
    assert needs_new_process(camera("strip:"), camera("strip:?seed=2"))
    assert needs_new_process(camera("strip:"), camera("strip:", ring_frames=9))
    assert needs_new_process(camera("a.mp4"), camera("a.mp4", live=True))
    assert not needs_new_process(camera("strip:"), camera("strip:", tile_px=100, max_memory_mb=999))


def test_opening_keys_are_keys_of_a_camera():
    """Every other key is taken for one that concerns inspection."""
    assert OPENING_KEYS | set(BESIDE) < set(Camera.model_fields)
    assert not OPENING_KEYS & set(BESIDE)
