"""A few dozen cases of the damage that `soak_outbox.py` does in thousands."""

from __future__ import annotations

import pytest
from soak_outbox import run

pytestmark = pytest.mark.system


def test_damaged_files_lose_nothing_without_a_report(tmp_path):
    """No number repeats, every hole is reported, and no store stays closed, whatever is damaged."""
    result = run(tmp_path, 80, seed=19, with_kills=False)
    assert not result.faults, str(result)


@pytest.mark.soak
def test_two_thousand_cases_and_a_kill_at_each_write_lose_nothing(tmp_path):
    """The same with a kill at every system call of a salvage."""
    result = run(tmp_path, 2000, 1, with_kills=True)
    assert not result.faults, str(result)
