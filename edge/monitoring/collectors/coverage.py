"""Coverage: which frames and tiles were inspected, and which were not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, Metric

from edge.pipeline.camera_session import CameraSession


def collect(sessions: Sequence[CameraSession]) -> Iterator[Metric]:
    frames = CounterMetricFamily("defectd_frames", "Frames by their final state.", labels=["camera", "state"])
    missed = CounterMetricFamily(
        "defectd_frames_missed", "Frames that were not inspected, by reason.", labels=["camera", "state", "reason"]
    )
    tiles = CounterMetricFamily("defectd_tiles", "Tiles inspected and skipped.", labels=["camera", "outcome"])
    partial = CounterMetricFamily("defectd_frames_partial", "Frames inspected in part.", labels=["camera"])
    silent = CounterMetricFamily("defectd_no_signal_seconds", "Time without frames.", labels=["camera"])
    for session in sessions:
        name, total = session.camera.name, session.counters.account.total()
        for state, n in total["frames"].items():
            frames.add_metric([name, state], n)
        for (state, reason), n in tuple(session.counters.losses.items()):
            missed.add_metric([name, state, reason], n)
        for outcome, n in total["tiles"].items():
            tiles.add_metric([name, outcome], n)
        partial.add_metric([name], total["partial"])
        silent.add_metric([name], total["no_signal_s"])
    yield from (frames, missed, tiles, partial, silent)
