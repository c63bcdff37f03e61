"""Network streams: why one does not open."""

from __future__ import annotations

import pytest

from edge.camera.sources.contract import SourceSpec
from edge.camera.sources.registry import open_source
from edge.errors import CameraError


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("rtsp://admin:secret@nosuch.invalid/x", "the name nosuch.invalid is not known"),
        ("rtsp://admin:secret@127.0.0.1:{port}/x", "refused the connection"),
        ("http://admin:secret@127.0.0.1:{port}/x", "refused the connection"),
        ("rtsp://admin:secret@127.0.0.1:99999/x", "Port out of range"),
    ],
)
def test_stream_that_does_not_open_names_the_reason_and_no_secret(free_port, url, words):
    """OpenCV gives no reason: the other side is contacted once more, without the login."""
    with pytest.raises(CameraError, match=words) as caught:
        open_source(SourceSpec(url.format(port=free_port)))
    assert "secret" not in str(caught.value)
