"""What a coil's defects are counted as, from its events."""

from __future__ import annotations

from typing import Any

from edge.delivery.page import defect_counts
from edge.delivery.page.defect_counts import DefectCounts


def told(counts: DefectCounts, kind: str, track: str, severity: str) -> None:
    defect: dict[str, Any] = {"track_id": track, "severity": severity}
    counts.add({"type": f"defect.{kind}", "camera": "top", "defect": defect})


def test_a_defect_counts_as_what_it_is_at_its_end() -> None:
    """It may grow while it passes; one that is smaller at its end stays what it was."""
    counts = DefectCounts()
    told(counts, "opened", "a", "minor")
    told(counts, "opened", "b", "major")
    told(counts, "closed", "a", "critical")
    told(counts, "closed", "b", "minor")
    assert counts.by_severity == {"minor": 0, "major": 1, "critical": 1}
    assert counts.by_camera == {"top": 2}


def test_a_defect_of_the_coil_before_is_not_counted_at_its_end(monkeypatch: Any) -> None:
    """Nor one that was forgotten because too many are open."""
    monkeypatch.setattr(defect_counts, "MAX_OPEN", 1)
    counts = DefectCounts()
    told(counts, "opened", "a", "minor")
    counts.add({"type": "coil.started", "time": "2026-11-22T13:46:11.482Z"})
    told(counts, "closed", "a", "critical")
    told(counts, "opened", "b", "minor")
    told(counts, "opened", "c", "minor")
    told(counts, "closed", "b", "critical")
    assert counts.by_severity == {"minor": 2, "major": 0, "critical": 0}
