"""A minute of the soak: what `make soak-delivery` does in fifteen."""

from __future__ import annotations

import subprocess
import sys

import pytest
from mosquitto import need_mosquitto
from soak_delivery import NODE, Plan, Soak

pytestmark = pytest.mark.system


def test_soak_loses_nothing(tmp_path):
    """Kills of node and broker, cuts of all kinds: 0 lost, 0 out of order, equal ids, no hole in seq."""
    need_mosquitto()
    result = Soak(tmp_path, Plan(seconds=40, seed=7, kills=6, broker_kills=3, cuts=20)).run()
    assert result.is_clean, result
    assert result.stored > 400


def test_soak_finds_a_node_that_deletes_at_publish(tmp_path):
    """The negative control: the same counting sees losses where there are some."""
    need_mosquitto()
    result = Soak(tmp_path, Plan(seconds=12, seed=2, kills=6, broker_kills=1, cuts=16, rate=100, careless=True)).run()
    assert result.lost, result


def test_soak_starts_as_a_script():
    """`make soak-delivery` runs it without pytest, which otherwise finds the fakes."""
    script = NODE.with_name("soak_delivery.py")
    assert subprocess.run([sys.executable, str(script), "--help"], capture_output=True, check=False).returncode == 0
