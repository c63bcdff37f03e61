"""Processes and threads: memory, processor time, and whether the loops move."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from edge.camera.supervised_camera import CameraStatus
from edge.host import machine
from edge.host.watchdog import HEARTBEAT_AGE, Loop
from edge.monitoring.collectors.age import add_age
from edge.monitoring.page_process import PageStatus


def collect(
    loops: Mapping[str, Loop], statuses: Mapping[str, CameraStatus], page: PageStatus | None, now_ns: int
) -> Iterator[Metric]:
    yield _heartbeats(loops, now_ns)
    yield from _processes(statuses, page)


def _heartbeats(loops: Mapping[str, Loop], now_ns: int) -> Metric:
    ages = GaugeMetricFamily(HEARTBEAT_AGE, "Since the loop last came round; a loop that hangs ages.", labels=["loop"])
    for name, loop in loops.items():
        add_age(ages, name, loop.beat_ns, now_ns)
    return ages


def _processes(statuses: Mapping[str, CameraStatus], page: PageStatus | None) -> Iterator[Metric]:
    labels = ["process", "camera"]
    memory = GaugeMetricFamily("defectd_process_resident_bytes", "Memory without the frame rings.", labels=labels)
    used = CounterMetricFamily("defectd_process_cpu_seconds", "Processor time.", labels=labels)
    pids = [("daemon", "", os.getpid())]
    pids += [("camera", name, status.pid) for name, status in statuses.items() if status.pid is not None]
    pids += [("page", "", page.pid)] if page is not None and page.pid is not None else []
    for process, name, pid in pids:
        resident_bytes, cpu_s = machine.resident_bytes(pid), machine.cpu_seconds(pid)
        if resident_bytes is not None and cpu_s is not None:
            memory.add_metric([process, name], resident_bytes)
            used.add_metric([process, name], cpu_s)
    yield from (memory, used)
