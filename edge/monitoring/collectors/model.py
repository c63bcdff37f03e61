"""The model: which one runs, and how a shadow model agrees with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, InfoMetricFamily, Metric

from edge.pipeline.shadow import Shadow


def collect(info: Mapping[str, str], shadow: Shadow | None) -> Iterator[Metric]:
    yield InfoMetricFamily("defectd", "Version and model.", dict(info))
    if shadow is not None:
        yield _agreement(shadow)


def _agreement(shadow: Shadow) -> Metric:
    frames = CounterMetricFamily(
        "defectd_shadow_frames",
        "Frames for the shadow model: it agreed or disagreed, had no time, or failed.",
        labels=["camera", "outcome"],
    )
    for name, tally in shadow.tallies.items():
        outcomes = {"agreed": tally.frames - tally.disagreed, "disagreed": tally.disagreed}
        for outcome, n in {**outcomes, "no_time": tally.no_time, "failed": tally.failed}.items():
            frames.add_metric([name, outcome], n)
    return frames
