"""The soak of `make soak-delivery`, for one minute in place of fifteen."""

from __future__ import annotations

import subprocess
import sys

import pytest
from mosquitto import need_mosquitto
from soak_delivery import NODE, Plan, Soak

pytestmark = pytest.mark.system


def test_soak_loses_nothing(tmp_path):
    """Kills and cuts lose no event, change no order and no id, and leave no hole in seq."""
    need_mosquitto()
    result = Soak(tmp_path, Plan(seconds=40, seed=7, kills=6, broker_kills=3, cuts=20)).run()
    assert result.is_clean, result
    assert result.stored > 400


def test_soak_finds_a_node_that_deletes_at_publish(tmp_path):
    """In the negative control the same counting finds the losses."""
    need_mosquitto()
    result = Soak(tmp_path, Plan(seconds=12, seed=2, kills=6, broker_kills=1, cuts=16, rate=100, careless=True)).run()
    assert result.lost, result


def test_soak_starts_as_a_script():
    """`make soak-delivery` runs the script without pytest, so it must find the fakes itself."""
    script = NODE.with_name("soak_delivery.py")
    assert subprocess.run([sys.executable, str(script), "--help"], capture_output=True, check=False).returncode == 0
