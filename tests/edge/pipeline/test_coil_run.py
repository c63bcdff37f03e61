"""From pixels to the grade: a coil of the generated strip whose defects, holes and roll mark are known."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from fakes.coil_run import COIL, MARK_AT_PX, MM_PER_PX, ORIGIN, PERIOD_M, CoilRun, Hole

from edge.coverage.coil_map import merged
from edge.event import as_json

SCHEMA = json.loads((Path(__file__).parents[3] / "edge/schema/event-1.json").read_text("utf-8"))


def test_record_marks_and_grade_are_what_passed(tmp_path: Path) -> None:
    """Places to some mm in the middle, the hole never too short, the roll mark by a live alarm, the grade with it."""
    with CoilRun(tmp_path, 1, 12.0, holes=(Hole("below", 7.0, 8.0, is_dark=True),), missing=0.0) as run:
        record, judgement = run.run()
        (start, end), *_ = run.holes_m("below")
        marks = [one for one in run.truth("right") if one.track < 0]
        at_m = [run.on_coil_m(one.box[1]) for one in marks]
    top = [one for one in merged(record.defects) if one.main.surface == "top" and one.across_mm is not None]
    at_mm = MARK_AT_PX * MM_PER_PX
    found = [one for one in top if one.across_mm and one.across_mm[0] <= at_mm + 20 and one.across_mm[1] >= at_mm]
    near = [min(abs((one.from_m or 0.0) - m) for one in found) for m in at_m]
    assert sorted(near)[len(near) // 2] < 0.005
    assert max(near) < 0.15, "one that lies over another defect starts with it"
    assert any(len(one.defects) == 2 for one in top), "two cameras, one defect"
    (missed,) = [one for one in record.runs["below"] if one.kind == "missed"]
    assert missed.from_m <= start + 0.001
    assert end <= missed.to_m <= end + 0.2
    assert {one.kind for one in record.runs["left"]} == {"whole"}
    assert record.summary.is_complete
    assert record.summary.length_m == pytest.approx(run.length_m, abs=0.01)
    widths = record.width["below"]
    assert len(widths) >= 10
    (alarm,) = [event for event in run.events if event.type == "roll_mark.suspected"]
    jsonschema.validate({**as_json(alarm, ORIGIN), "seq": 1}, SCHEMA)
    assert alarm.detail is not None
    assert (alarm.detail["coil"], alarm.detail["surface"]) == (COIL, "top")
    assert alarm.detail["period_m"] == pytest.approx(PERIOD_M, rel=0.002)
    (mark,) = judgement.roll_marks
    assert mark["period_m"] == pytest.approx(PERIOD_M, rel=0.001)
    assert mark["across_mm"] == pytest.approx(at_mm + 10, abs=15)
    assert judgement.grade is not None
    assert judgement.grade["grade"] == "B"
    assert any("roll_marks is 1" in reason for reason in judgement.grade["reasons"])
