"""Cameras: their state, frame rate and ages, drift of the image, and distance from the model's training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from edge.camera.supervised_camera import CameraStatus
from edge.monitoring.collectors.age import add_age
from edge.pipeline.camera_session import CameraSession
from edge.pipeline.camera_state import STATES


def collect(sessions: Sequence[CameraSession], statuses: Mapping[str, CameraStatus], now_ns: int) -> Iterator[Metric]:
    yield from _states(sessions, statuses, now_ns)
    yield from _drift(sessions)
    yield from _domain(sessions)


def _states(sessions: Sequence[CameraSession], statuses: Mapping[str, CameraStatus], now_ns: int) -> Iterator[Metric]:
    state = GaugeMetricFamily("defectd_camera_state", "1 for the camera's state.", labels=["camera", "state"])
    fps = GaugeMetricFamily("defectd_camera_fps", "Frames per second in the last window.", labels=["camera"])
    frame = GaugeMetricFamily("defectd_last_frame_age_seconds", "Since the last frame.", labels=["camera"])
    verdict = GaugeMetricFamily("defectd_last_inference_age_seconds", "Since the last verdict.", labels=["camera"])
    waiting = GaugeMetricFamily("defectd_waiting_frames", "Frames that wait for inspection.", labels=["camera"])
    restarts = CounterMetricFamily("defectd_camera_restarts", "Restarts of the camera process.", labels=["camera"])
    for session in sessions:
        name = session.camera.name
        for known in STATES:
            state.add_metric([name, known], float(session.state.name == known))
        fps.add_metric([name], session.counters.fps)
        add_age(verdict, name, session.counters.last_verdict_ns, now_ns)
        if name in statuses:
            add_age(frame, name, statuses[name].last_frame_ns, now_ns)
            waiting.add_metric([name], statuses[name].waiting)
            restarts.add_metric([name], statuses[name].restarts)
    yield from (state, fps, frame, verdict, waiting, restarts)


def _domain(sessions: Sequence[CameraSession]) -> Iterator[Metric]:
    distance = GaugeMetricFamily(
        "defectd_training_distance",
        "Median distance of suspect tiles from the model's training; up to 1 is usual.",
        labels=["camera"],
    )
    outside = GaugeMetricFamily(
        "defectd_out_of_domain", "1 where the surface is unlike the model's training.", labels=["camera"]
    )
    for session in sessions:
        watch = session.domain
        if watch is not None:
            if watch.median is not None:
                distance.add_metric([session.camera.name], watch.median)
            outside.add_metric([session.camera.name], float(watch.answer == "outside"))
    yield from (distance, outside)


def _drift(sessions: Sequence[CameraSession]) -> Iterator[Metric]:
    labels = ["camera", "figure"]
    now = GaugeMetricFamily("defectd_drift_figure", "Median over the window of drift detection.", labels=labels)
    calibrated = GaugeMetricFamily("defectd_drift_calibrated", "Median in defect-free footage.", labels=labels)
    drifted = GaugeMetricFamily("defectd_drifted", "1 for a figure outside its calibrated limits.", labels=labels)
    for session in sessions:
        if session.drift is None:
            continue
        for name, figure in session.drift.figures().items():
            if figure["now"] is not None:
                now.add_metric([session.camera.name, name], figure["now"])
            calibrated.add_metric([session.camera.name, name], figure["calibrated"][1])
            drifted.add_metric([session.camera.name, name], float(figure["drifted"]))
    yield from (now, calibrated, drifted)
