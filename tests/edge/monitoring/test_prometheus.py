"""The Prometheus endpoint: what it says adds up with what the line counted."""

from __future__ import annotations

import socket
import urllib.request

import pytest
from fakes.node import Parts
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from edge import config
from edge.event import Event
from edge.host.clock import NS_PER_MS, NS_PER_S
from edge.monitoring.prometheus import Exporter, _machine


def fetch(port: int) -> dict[tuple[str, ...], float]:
    """What a scraper sees: values by name and label values."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_endpoint_says_what_the_line_counted(free_port):
    """Frames by state and reason, tiles, ages, delivery, memory: in Prometheus's own words, with units."""
    parts = Parts()
    session, now = parts.session, parts.clock.monotonic_ns()
    session.counters.account.count("ok", 10)
    session.counters.account.count_tiles(80, 4)
    session.miss("overload", now, "late", frames=2)
    session.miss("bad_image", now, "bad_image", "dark", 3)
    session.counters.last_verdict_ns = now - 2 * NS_PER_S
    for ms in (1, 2, 30):
        session.counters.stages["total"].add(ms * NS_PER_MS)
    fact = Event.now(parts.clock, "top", "image.bad")
    parts.clock.advance(0.005)
    parts.trail.stored([fact])
    exporter = Exporter(("127.0.0.1", free_port), parts.reading)
    assert exporter.start()
    try:
        seen = fetch(free_port)
    finally:
        exporter.stop()
        exporter.stop()
    assert seen["defectd_frames_total", "top", "ok"] == 10
    assert (
        sum(n for key, n in seen.items() if key[0] == "defectd_frames_total")
        == session.counters.account.delivered()
        == 15
    )
    assert seen["defectd_frames_missed_total", "top", "dark", "bad_image"] == 3
    assert seen["defectd_tiles_total", "top", "skipped"] == 4
    assert seen["defectd_frames_partial_total", "top"] == 1
    assert seen["defectd_stage_seconds_count", "top", "total"] == 3
    assert seen["defectd_stage_seconds_bucket", "top", "0.01", "total"] == 2
    assert seen["defectd_stage_seconds_sum", "top", "total"] == pytest.approx(0.033)
    assert seen["defectd_stage_seconds_count", "top", "outbox"] == 1
    assert seen["defectd_last_frame_age_seconds", "top"] == pytest.approx(1.005)
    assert seen["defectd_last_inference_age_seconds", "top"] == pytest.approx(2.005)
    assert seen["defectd_last_ack_age_seconds",] == pytest.approx(4.005)
    assert seen["defectd_outbox_events",] == 6
    assert seen["defectd_process_resident_bytes", "", "daemon"] > 1 << 20
    assert seen["defectd_process_resident_bytes", "top", "camera"] > 1 << 20
    assert seen["defectd_camera_state", "top", "no_signal"] == 1
    assert (seen["defectd_evidence_files", "defect"], seen["defectd_evidence_bytes",]) == (3, 500)
    assert (seen["defectd_evidence_written_bytes_total",], seen["defectd_evidence_evicted_total",]) == (900, 4)
    assert seen["defectd_evidence_lost_total", "queue"] == 1


def test_port_that_is_taken_is_told_and_stops_nothing(caplog):
    """The box inspects without its metrics."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        exporter = Exporter(("127.0.0.1", other.getsockname()[1]), Parts().reading)
        assert not exporter.start()
        exporter.stop()
    assert "no metrics on 127.0.0.1" in caplog.text


def test_losses_of_many_reasons_are_bounded():
    """A series for each message would fill the memory of whoever collects them."""
    session = Parts().session
    for n in range(1000):
        session.miss("bad_image", 0, "bad_image", f"{n} px is too small")
    assert len(session.counters.losses) <= 21
    assert sum(session.counters.losses.values()) == session.counters.account.delivered() == 1000


@pytest.mark.parametrize("listen", ["9464", ":9464", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:70000", "host:http"])
def test_address_that_is_none_is_refused(listen):
    """The message says what to write."""
    with pytest.raises(ValidationError, match="HOST:PORT"):
        config.Metrics(listen=listen)


def test_address_is_host_and_port_or_none():
    """An IPv6 host stands in brackets, null is no endpoint."""
    assert config.Metrics(listen="[::1]:9464").address == ("::1", 9464)
    assert config.Metrics(listen=None).address is None


def test_throttling_of_the_box_is_a_metric(tmp_path):
    """One value for each reason, of this moment and since boot; none where the box does not know."""
    assert [family.name for family in _machine(tmp_path)] == []
    flags = tmp_path / "devices/platform/soc/soc:firmware/get_throttled"
    flags.parent.mkdir(parents=True)
    flags.write_text("50001\n")
    (family,) = _machine(tmp_path)
    ones = {tuple(sorted(sample.labels.values())) for sample in family.samples if sample.value == 1}
    assert ones == {("now", "under_voltage"), ("since_boot", "under_voltage"), ("since_boot", "throttled")}
    assert len(family.samples) == 8
