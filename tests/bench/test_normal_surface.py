"""The anomaly score separates good surface from defects on pictures of two mills."""

from __future__ import annotations

from pathlib import Path

import normal_surface as bench
import pytest

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "normal-steel"


@pytest.mark.bench
def test_defects_are_separated_from_good_surface_of_two_mills():
    """AUROC of the joined score, one split by source frame: at least 0.95 on CR7, 0.85 on Severstal."""
    if not DATA.is_dir():
        pytest.skip("no pictures of good surface beside the repository: shared/data/normal-steel")
    found = bench.main(DATA, splits=1)
    assert found["cr7-det"][bench.OURS] >= 0.95
    assert found["severstal"][bench.OURS] >= 0.85
