"""Network streams through FFmpeg: rtsp, rtsps, http, https, and whatever else it opens by a URL."""

from __future__ import annotations

import os
from typing import Final

import cv2

from edge.camera.sources import capture, diagnose
from edge.camera.sources.contract import Source, SourceSpec
from edge.errors import CameraError
from edge.host.clock import NS_PER_S, Clock
from edge.host.url import public_url, split

MAX_LOGIN_CHARS: Final = 127
"""Of RTSP.  FFmpeg cuts a longer one off (`char auth[128]` in ff_rtsp_connect), and the camera refuses what is left."""


def is_stream(url: str) -> bool:
    return "://" in url and not url.startswith("file://")


def environment(spec: SourceSpec) -> dict[str, str]:
    return {"OPENCV_FFMPEG_CAPTURE_OPTIONS": _ffmpeg_options(spec)}


def _ffmpeg_options(spec: SourceSpec) -> str:
    """What OpenCV passes on to FFmpeg.

    No `fflags;nobuffer`, although it promises low delay: it throws the first key frame away, so that a camera whose
    key frames are further apart than the read timeout never delivers. The short probe leaves a few old frames
    instead, which are discarded and counted after opening.
    """
    if spec.url.startswith(("rtsp:", "rtsps:")):
        options = ("rtsp_transport", spec.rtsp_transport), ("analyzeduration", "200000"), ("probesize", "32768")
        return "|".join(f"{key};{value}" for key, value in (*options, ("flags", "low_delay")))
    return "analyzeduration;200000|flags;low_delay"


def open_stream(spec: SourceSpec, clock: Clock) -> Source:
    name = public_url(spec.url)
    try:
        parts = split(spec.url)
    except ValueError as error:
        raise CameraError(f"{name}: {error}; check host and port in `source` of this camera") from None
    host = parts.hostname
    login = parts.netloc.rpartition("@")[0]
    if parts.scheme in ("rtsp", "rtsps") and len(login) > MAX_LOGIN_CHARS:
        raise CameraError(
            f"{name}: user and password have {len(login)} characters when percent-encoded, and FFmpeg reads only "
            f"{MAX_LOGIN_CHARS}; give the camera a shorter password"
        )
    can_diagnose = parts.scheme in diagnose.PORTS
    if host and can_diagnose:
        # FFmpeg resolves names outside its timeouts.
        no_answer = f"{name}: the name service does not answer"
        diagnose.run_bounded(lambda: diagnose.resolve(name, host), spec.open_timeout_s, no_answer)
    os.environ.update(capture.environment(spec))
    start = clock.monotonic_ns()
    stream = capture.open_ffmpeg(
        spec.url,
        _ffmpeg_options(spec),
        [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(spec.open_timeout_s * 1000)),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(spec.read_timeout_s * 1000)),
        ],
    )
    if stream is None:
        took_s = (clock.monotonic_ns() - start) / NS_PER_S
        late = f"{name} did not open within {spec.open_timeout_s:g} s; it may be switched off, or raise open_timeout_s"
        diagnose.run_bounded(lambda: diagnose.diagnose(parts, name), min(2.0, spec.read_timeout_s), late)
        answers = f"{name} answers, but gives no video that opens"
        refused = answers if can_diagnose else f"{name} does not open; check `source`"
        raise CameraError(late if took_s >= spec.open_timeout_s else refused)
    source = capture.LiveCapture(stream, name, capture.read_info(stream), spec.read_timeout_s, clock)
    try:
        source.discard_backlog()
    except CameraError:
        source.close()
        raise
    return source
