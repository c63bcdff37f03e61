"""Network streams: why one does not open."""

from __future__ import annotations

import pytest

from edge.camera.sources.contract import SourceSpec
from edge.camera.sources.registry import open_source
from edge.errors import CameraError


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("rtsp://admin:secret@nosuch.invalid/x", "rtsp://nosuch.invalid/x: this host is not known"),
        ("rtsp://admin:secret@127.0.0.1:{port}/x", "refused the connection"),
        ("http://admin:secret@127.0.0.1:{port}/x", "refused the connection"),
        ("rtsp://admin:p@secret#1@127.0.0.1/x", r"\(hidden\): this host is not known"),
        ("rtsp://admin:secret#1@127.0.0.1/x", r"\(hidden\): is not a URL"),
        ("rtsp://admin:" + "secret" * 21 + "@127.0.0.1/x", "132 characters"),
        ("rtsp://admin:secret@127.0.0.1:99999/x", "not a valid URL"),
    ],
)
def test_stream_that_does_not_open_names_the_reason_and_no_secret(free_port, url, words):
    """OpenCV gives no reason: the other side is contacted once more, without the login."""
    with pytest.raises(CameraError, match=words) as caught:
        open_source(SourceSpec(url.format(port=free_port)))
    assert "secret" not in str(caught.value)
