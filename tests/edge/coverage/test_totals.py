"""Coverage totals that outlive the process."""

import json
from pathlib import Path

import jsonschema
import pytest
from fakes import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from edge.coverage.accounting import STATES, Coverage
from edge.coverage.totals import DAYS, RUNS, CoverageTotals
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


def test_totals_go_on_after_a_restart(tmp_path):
    """A second run adds to the day and to all, and has a sum of its own; the message carries the day."""
    clock = FakeClock()
    for _ in range(2):
        ledger = CoverageTotals(tmp_path / "coverage.json", clock)
        message = ledger.note("top", window(clock, ok=5, late=2))
        ledger.save(ended=True)
    jsonschema.validate(message, SCHEMA)
    assert message["delivered"] == 7
    assert message["today"]["delivered"] == sum(message["today"]["frames"].values()) == 14
    whole = saved(tmp_path / "coverage.json")
    assert whole["ever"]["top"]["frames"]["late"] == 4
    assert [run["cameras"]["top"]["delivered"] for run in whole["runs"]] == [7, 7]
    assert [run["ended"] for run in whole["runs"]] == [True, True]


def test_ledger_tells_how_long_the_run_before_lived(tmp_path):
    """Until its last window that was saved."""
    clock = FakeClock()
    first = CoverageTotals(tmp_path / "coverage.json", clock)
    assert first.before_ns is None
    first.note("top", window(clock, ok=5))
    first.save(ended=True)
    last_ns = clock.wall_ns()
    clock.advance(86_400)
    assert CoverageTotals(tmp_path / "coverage.json", clock).before_ns == pytest.approx(last_ns, abs=NS_PER_MS)


def test_days_are_told_apart(tmp_path):
    """At midnight UTC a new day begins."""
    clock = FakeClock()
    ledger = CoverageTotals(tmp_path / "coverage.json", clock)
    first = ledger.note("top", window(clock, ok=5))["today"]
    clock.advance(86_400)
    second = ledger.note("top", window(clock, ok=3))["today"]
    assert first["date"] < second["date"]
    assert (first["delivered"], second["delivered"]) == (5, 3)


def test_file_is_written_once_a_minute_at_most(tmp_path):
    """A card that wears out is spared; a run that was killed is seen as not ended."""
    clock, path = FakeClock(), tmp_path / "coverage.json"
    ledger = CoverageTotals(path, clock)
    ledger.save()
    assert not path.exists()
    clock.advance(61)
    ledger.note("top", window(clock, ok=1))
    ledger.save()
    written = path.stat().st_mtime_ns
    ledger.note("top", window(clock, ok=1))
    ledger.save()
    assert path.stat().st_mtime_ns == written
    assert saved(path)["runs"][-1]["ended"] is False


def test_days_and_runs_are_bounded(tmp_path):
    """A month of days and a score of runs are kept."""
    clock, path = FakeClock(), tmp_path / "coverage.json"
    for _ in range(RUNS + DAYS + 5):
        ledger = CoverageTotals(path, clock)
        ledger.note("top", window(clock, ok=1))
        ledger.save(ended=True)
        clock.advance(86_400)
    whole = saved(path)
    assert (len(whole["days"]), len(whole["runs"])) == (DAYS, RUNS)
    assert whole["ever"]["top"]["delivered"] == RUNS + DAYS + 5


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema": "other/1"}', '{"schema": "defectd.totals/1"}', "\xff\0"]
)
def test_damaged_file_is_put_aside(tmp_path, content, caplog):
    """Totals that cannot be read stop nothing; the file is kept for a person to look at."""
    path = tmp_path / "coverage.json"
    path.write_text(content, "latin-1")
    clock = FakeClock()
    ledger = CoverageTotals(path, clock)
    assert "start anew" in caplog.text
    ledger.note("top", window(clock, ok=1))
    ledger.save(ended=True)
    assert saved(path)["ever"]["top"]["delivered"] == 1
    assert path.with_suffix(".unreadable").exists()


def test_disk_that_takes_nothing_is_told_once(tmp_path, caplog):
    """The daemon goes on without its totals."""
    ledger = CoverageTotals(tmp_path / "missing" / "coverage.json", FakeClock())
    for _ in range(3):
        ledger.save(ended=True)
    assert caplog.text.count("cannot be saved") == 1


@given(st.lists(st.tuples(st.sampled_from(STATES), st.integers(0, 1000)), max_size=30))
def test_sums_of_windows_are_the_totals(steps):
    """Whatever is noted, delivered stays the sum of the states."""
    clock = FakeClock()
    ledger = CoverageTotals(Path("/nonexistent/coverage.json"), clock)
    expected = 0
    for state, n in steps:
        message = ledger.note("top", window(clock, **{state: n}))
        expected += n
        assert message["today"]["delivered"] == sum(message["today"]["frames"].values())
    assert not steps or ledger._ever["top"]["delivered"] == expected
    assert clock.monotonic_ns() >= NS_PER_S
