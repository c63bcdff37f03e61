"""Coverage totals that survive a restart."""

import json
from pathlib import Path

import jsonschema
import pytest
from fakes.clock import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from edge.coverage.accounting import FRAME_STATES, Coverage
from edge.coverage.totals import MAX_DAYS, MAX_RUNS, CoverageTotals
from edge.host.clock import NS_PER_MS, NS_PER_S

SCHEMA = json.loads((Path(__file__).parents[3] / "edge/schema/coverage-1.json").read_text("utf-8"))


def window(clock, **states):
    """A coverage message of one window."""
    account = Coverage(clock.monotonic_ns())
    for state, n in states.items():
        account.count(state, n)
    account.count_tiles(10, 2)
    clock.advance(10)
    return account.report(clock.monotonic_ns())


def saved(path):
    return json.loads(path.read_text("utf-8"))


def test_totals_continue_after_a_restart(tmp_path):
    """A second run adds to the day and to `ever`, and has a sum of its own; the message includes the day."""
    clock = FakeClock()
    for _ in range(2):
        totals = CoverageTotals(tmp_path / "coverage.json", clock)
        message = totals.add("top", window(clock, ok=5, late=2))
        totals.save(ended=True)
    jsonschema.validate(message, SCHEMA)
    assert message["delivered"] == 7
    assert message["today"]["delivered"] == sum(message["today"]["frames"].values()) == 14
    whole = saved(tmp_path / "coverage.json")
    assert whole["ever"]["top"]["frames"]["late"] == 4
    assert [run["cameras"]["top"]["delivered"] for run in whole["runs"]] == [7, 7]
    assert [run["ended"] for run in whole["runs"]] == [True, True]


def test_totals_know_when_the_previous_run_was_last_alive(tmp_path):
    """It is the time of its last saved window."""
    clock = FakeClock()
    first = CoverageTotals(tmp_path / "coverage.json", clock)
    assert first.previous_alive_ns is None
    first.add("top", window(clock, ok=5))
    first.save(ended=True)
    last_ns = clock.wall_ns()
    clock.advance(86_400)
    assert CoverageTotals(tmp_path / "coverage.json", clock).previous_alive_ns == pytest.approx(last_ns, abs=NS_PER_MS)


def test_days_are_separate(tmp_path):
    """A new day starts at midnight UTC."""
    clock = FakeClock()
    totals = CoverageTotals(tmp_path / "coverage.json", clock)
    first = totals.add("top", window(clock, ok=5))["today"]
    clock.advance(86_400)
    second = totals.add("top", window(clock, ok=3))["today"]
    assert first["date"] < second["date"]
    assert (first["delivered"], second["delivered"]) == (5, 3)


def test_file_is_written_at_most_once_a_minute(tmp_path):
    """This spares an SD card; a killed run is marked as not ended."""
    clock, path = FakeClock(), tmp_path / "coverage.json"
    totals = CoverageTotals(path, clock)
    totals.save()
    assert not path.exists()
    clock.advance(61)
    totals.add("top", window(clock, ok=1))
    totals.save()
    written = path.stat().st_mtime_ns
    totals.add("top", window(clock, ok=1))
    totals.save()
    assert path.stat().st_mtime_ns == written
    assert saved(path)["runs"][-1]["ended"] is False


def test_days_and_runs_are_bounded(tmp_path):
    """The file keeps 31 days and 20 runs."""
    clock, path = FakeClock(), tmp_path / "coverage.json"
    for _ in range(MAX_RUNS + MAX_DAYS + 5):
        totals = CoverageTotals(path, clock)
        totals.add("top", window(clock, ok=1))
        totals.save(ended=True)
        clock.advance(86_400)
    whole = saved(path)
    assert (len(whole["days"]), len(whole["runs"])) == (MAX_DAYS, MAX_RUNS)
    assert whole["ever"]["top"]["delivered"] == MAX_RUNS + MAX_DAYS + 5


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema": "other/1"}', '{"schema": "defectd.totals/1"}', "\xff\0"]
)
def test_damaged_file_is_renamed(tmp_path, content, caplog):
    """Unreadable totals stop nothing; the file stays for a person to examine."""
    path = tmp_path / "coverage.json"
    path.write_text(content, "latin-1")
    clock = FakeClock()
    totals = CoverageTotals(path, clock)
    assert "start from zero" in caplog.text
    totals.add("top", window(clock, ok=1))
    totals.save(ended=True)
    assert saved(path)["ever"]["top"]["delivered"] == 1
    assert path.with_suffix(".unreadable").exists()


def test_failing_disk_is_logged_once(tmp_path, caplog):
    """The daemon goes on without saving its totals."""
    totals = CoverageTotals(tmp_path / "missing" / "coverage.json", FakeClock())
    for _ in range(3):
        totals.save(ended=True)
    assert caplog.text.count("cannot be saved") == 1


@given(st.lists(st.tuples(st.sampled_from(FRAME_STATES), st.integers(0, 1000)), max_size=30))
def test_sums_of_windows_are_the_totals(steps):
    """For any windows, delivered is the sum of the states."""
    clock = FakeClock()
    totals = CoverageTotals(Path("/nonexistent/coverage.json"), clock)
    expected = 0
    for state, n in steps:
        message = totals.add("top", window(clock, **{state: n}))
        expected += n
        assert message["today"]["delivered"] == sum(message["today"]["frames"].values())
    assert not steps or totals._ever["top"]["delivered"] == expected
    assert clock.monotonic_ns() >= NS_PER_S
