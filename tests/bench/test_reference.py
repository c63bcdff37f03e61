"""The reference of the benchmark is the published network."""

from __future__ import annotations

import importlib
import sys

import pytest

from edge.model import bundle
from edge.pipeline.side_by_side import side_by_side

torch = pytest.importorskip("torch", reason="the trainer extra is not installed")
reference = importlib.import_module("reference")  # after torch, which it needs


def test_reference_has_the_published_number_of_parameters():
    """144,342, as published: the measured network is the described one."""
    count = sum(p.numel() for p in reference.network().parameters())
    assert count == reference.PARAMETERS


@pytest.mark.bench
def test_daemon_beside_the_naive_loop_and_the_reference(tmp_path):
    """Printed, never asserted: the time of a tile in the daemon, in the naive loop and by the reference's recipe."""
    pytest.importorskip("PIL", reason="pillow is not installed")
    reference.export(tmp_path / "reference.onnx")
    for side in side_by_side(bundle.load("builtin"), 200, tmp_path / "reference.onnx"):
        sys.stderr.write(f"\n{side.what}, {side.network}: {side.us.p50:.1f} us, ratios {side.ratios}, n {side.us.n}")
