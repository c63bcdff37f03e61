"""All types of sources: one row each.  A new source is a module beside this one, and a row here."""

from __future__ import annotations

from typing import Final

from edge.camera.sources import capture, device, files, simulator, stream
from edge.camera.sources.contract import COMMON_SETTINGS, Source, SourceSpec, SourceType
from edge.host.clock import Clock, SystemClock

RECORDING: Final = SourceType(
    "recording",
    files.is_path,
    files.open_recording,
    is_live=False,
    has_sensor_noise=False,
    settings=frozenset(("loop",)),
    opencv_backend=files.opencv_backend,
)

SOURCES: Final = (
    SourceType("strip", simulator.is_strip, simulator.open_strip, is_live=True, has_sensor_noise=False),
    SourceType(
        "device",
        device.is_device,
        device.open_device,
        is_live=True,
        has_sensor_noise=True,
        settings=frozenset(("width", "height", "pixel_format", "exposure", "gain")),
        opencv_backend=lambda _url: "V4L2",
        doctor_checks="device",
    ),
    SourceType(
        "stream",
        stream.is_stream,
        stream.open_stream,
        is_live=True,
        has_sensor_noise=True,
        settings=frozenset(("rtsp_transport",)),
        environment=stream.environment,
        opencv_backend=lambda _url: "FFMPEG",
        doctor_checks="network",
    ),
    RECORDING,
)
"""The first row that matches counts; the last one matches everything."""

SETTINGS: Final = COMMON_SETTINGS.union(*(row.settings for row in SOURCES))
"""Every field of SourceSpec that some source reads, beside `url` and `live`."""


def find(url: str) -> SourceType:
    """The type of a configured source, by its form alone: touches no file."""
    return next(row for row in SOURCES if row.matches(url))


def is_live(url: str, configured: bool | None = None) -> bool:  # noqa: FBT001 (the key of the configuration)
    """Whether the frames of a source cannot wait.  configured: the key `live`, which overrides the registry."""
    return find(url).is_live if configured is None else configured


def environment(spec: SourceSpec) -> dict[str, str]:
    """The variables that the process of a camera starts with: OpenCV reads some of them when it is loaded."""
    return {**capture.environment(spec), **find(spec.url).environment(spec)}


def open_source(spec: SourceSpec, clock: Clock | None = None) -> Source:
    """Open the source.  Raises CameraError with the remedy; no credentials stand in the message."""
    return find(spec.url).open(spec, clock or SystemClock())
