"""What all sources share: the settings they are opened with, and names without secrets."""

from __future__ import annotations

import pytest

from edge.camera.sources.contract import SourceInfo, SourceSpec
from edge.errors import CameraError


def test_spec_shows_no_login():
    """A repr ends in logs."""
    assert "p%40ss" not in repr(SourceSpec("rtsp://admin:p%40ss@10.0.0.5/ch1"))


def test_spec_survives_json():
    """The camera process gets exactly the settings that the daemon sent."""
    spec = SourceSpec("0", fps=12, live=True, gain=3.5, pixel_format="GREY")
    assert SourceSpec.from_json(spec.to_json()) == spec
    assert SourceInfo.from_json(SourceInfo("x", 1, 2, 3.0, "GREY", None, 4.0).as_json()).gain == 4.0
    for text in ("", "[]", '{"nonsense": 1}'):
        with pytest.raises(CameraError):
            SourceSpec.from_json(text)
