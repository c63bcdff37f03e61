"""Ratios and overheads of paths that were measured side by side."""

from __future__ import annotations

import pytest

from edge.model import bundle
from edge.pipeline.histogram import Summary
from edge.pipeline.side_by_side import ALONE, DAEMON, NAIVE, Side, overheads, side_by_side


def test_overheads_are_shares_of_the_networks_time() -> None:
    """A frame path of 120 us per tile around a network of 100 us has an overhead of 0.2."""
    sides = [
        Side(what, "fp32", 64, Summary(10, us, us, us, us, us), {})
        for what, us in ((DAEMON, 120.0), (ALONE, 100.0), (NAIVE, 300.0))
    ]
    assert overheads(sides) == {"fp32": pytest.approx(0.2)}


def test_every_network_is_measured_in_every_path() -> None:
    """Without a reference: daemon, network alone and naive loop, and the daemon's ratio to itself is 1."""
    sides = side_by_side(bundle.load("builtin"), 10, None)
    assert [(side.what, side.network) for side in sides] == [
        (what, network) for network in ("fp32", "int8") for what in (DAEMON, ALONE, NAIVE)
    ]
    assert all(side.ratios[side.network] == 1.0 for side in sides if side.what == DAEMON)
    assert all(side.us.n >= 10 for side in sides)
