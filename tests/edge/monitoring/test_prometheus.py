"""The metrics page: its numbers add up with what the inspection loop counted."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest
from fakes.monitoring import Scene
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from edge import config
from edge.event import Event
from edge.host.clock import NS_PER_MS, NS_PER_S, SystemClock
from edge.monitoring import collectors
from edge.monitoring.collectors import Collector, collectors_of, machine
from edge.monitoring.http_server import HttpServer
from edge.monitoring.prometheus import CONTENT_TYPE, MetricsPage
from edge.monitoring.route import Request


def fetch(port: int) -> dict[tuple[str, ...], float]:
    """What a scraper receives: values by name and label values."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return values(text)


def values(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_page_gives_what_the_loop_counted():
    """Frames by state and reason, tiles, ages, delivery, memory: in Prometheus's base units."""
    scene = Scene()
    session, now = scene.session, scene.clock.monotonic_ns()
    session.counters.account.count("ok", 10)
    session.counters.account.count_tiles(80, 4)
    session.miss("overload", now, "late", frames=2)
    session.miss("bad_image", now, "bad_image", "dark", 3)
    session.counters.last_verdict_ns = now - 2 * NS_PER_S
    for ms in (1, 2, 30):
        session.counters.stages["total"].add(ms * NS_PER_MS)
    fact = Event.now(scene.clock, "top", "image.bad")
    scene.clock.advance(0.005)
    scene.latency.stored([fact])
    server = HttpServer(("127.0.0.1", 0), SystemClock())
    assert server.start(scene.routes)
    try:
        seen = fetch(server.port)
    finally:
        assert server.stop(5)
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
    assert (seen["defectd_output_up", "sparkplug"], seen["defectd_output_restarts_total", "sparkplug"]) == (0, 3)
    page = ("defectd_page_up", "defectd_page_restarts_total", "defectd_page_viewers")
    assert [seen[name,] for name in page] == [1, 1, 2]
    assert seen["defectd_process_resident_bytes", "", "page"] > 1 << 20
    assert seen["defectd_http_refused_total", "busy"] == 2
    assert {value for key, value in seen.items() if key[0] == "defectd_collector_up"} == {1}


def test_collector_that_fails_is_marked_and_hides_no_other(caplog):
    """Its own metrics are missing, none is there by half, and the log has one line for many requests."""
    scene = Scene()
    scene.session.counters.account.count_tiles(80, 4)

    def failing(_now_ns):
        yield from machine.collect()
        raise OSError("the sensor is gone")

    good = next(one for one in collectors_of(scene.monitored) if one.name == "coverage")
    page = MetricsPage((Collector("broken", failing), good), scene.clock)
    for _ in range(3):
        response = page(Request("/metrics"))
    assert response.content_type == CONTENT_TYPE
    seen = values(response.body.decode())
    assert (seen["defectd_collector_up", "broken"], seen["defectd_collector_up", "coverage"]) == (0, 1)
    assert {key[0] for key in seen if "tiles" in key[0] or "temperature" in key[0]} == {"defectd_tiles_total"}
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "the sensor is gone" in caplog.text
    scene.clock.advance(61)
    page(Request("/metrics"))
    assert "2 more failures" in caplog.text


def test_every_collector_is_listed_once():
    """A file in the package is a row in the tuple."""
    folder = Path(collectors.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "age"}
    names = [collector.name for collector in collectors_of(Scene().monitored)]
    assert sorted(names) == sorted(files)


def test_losses_of_many_reasons_are_bounded():
    """A series for each message would fill the memory of Prometheus."""
    session = Scene().session
    for n in range(1000):
        session.miss("bad_image", 0, "bad_image", f"{n} px is too small")
    assert len(session.counters.losses) <= 21
    assert sum(session.counters.losses.values()) == session.counters.account.delivered() == 1000


@pytest.mark.parametrize("listen", ["9464", ":9464", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:70000", "host:http"])
def test_address_that_is_invalid_is_refused(listen):
    """The message names the expected form."""
    with pytest.raises(ValidationError, match="HOST:PORT"):
        config.Metrics(listen=listen)


def test_address_is_host_and_port_or_none():
    """An IPv6 host stands in brackets, null is no server."""
    assert config.Metrics(listen="[::1]:9464").address == ("::1", 9464)
    assert config.Metrics(listen=None).address is None


def test_throttling_of_the_machine_is_a_metric(tmp_path):
    """One value for each reason, now and since boot; none where the machine has no such sensor."""
    assert [family.name for family in machine.collect(tmp_path)] == []
    flags = tmp_path / "devices/platform/soc/soc:firmware/get_throttled"
    flags.parent.mkdir(parents=True)
    flags.write_text("50001\n")
    (family,) = machine.collect(tmp_path)
    ones = {tuple(sorted(sample.labels.values())) for sample in family.samples if sample.value == 1}
    assert ones == {("now", "under_voltage"), ("since_boot", "under_voltage"), ("since_boot", "throttled")}
    assert len(family.samples) == 8
