"""The trend over coils states what rises, and does not see a direction in chance."""

from __future__ import annotations

import json
import random
from pathlib import Path

import jsonschema

from edge.coverage import coil_judgement
from edge.coverage.coil_judgement import CoilJudgement
from edge.coverage.coil_record import INDEX_NAME, INDEX_SCHEMA, CameraMeters, CoilSummary, SeqProof
from edge.report.trend import kendall_z, trend_of

SCHEMA = Path(__file__).parents[3] / "edge" / "schema" / "api-coil-trend-1.json"


def index(folder: Path, count: int) -> None:
    """Coils on which scratches become more, and inclusions do not; every second one has a roll mark and grade B."""
    dice = random.Random(5)
    coils = []
    for k in range(count):
        classes = {"scratches": 5 + k + dice.randrange(5), "inclusion": dice.randrange(10)}
        meters = {"top": CameraMeters(whole=990.0, missed=10.0)}
        record_id = f"20261122T{k:09d}Z-C{k}"
        summary = CoilSummary(
            *(record_id, f"C{k}", "line3", "2026-11-22T14:00:00.000Z", "2026-11-22T14:10:00.000Z", 1000.0),
            *(sum(classes.values()), {"minor": sum(classes.values())}, classes, meters, SeqProof(1, 9, 9)),
        )
        coils.append(summary.as_json())
        mark = {"period_m": 2.041}
        grade = {"grade": "B" if k % 2 else "A"}
        coil_judgement.save(folder, CoilJudgement(record_id, f"C{k}", (mark,) * (k % 2), grade=grade))
    (folder / INDEX_NAME).write_text(json.dumps({"schema": INDEX_SCHEMA, "coils": coils}))


def test_trend_names_what_rises(tmp_path: Path) -> None:
    """Scratches rise, inclusions and gaps stay; grades and marks are counted."""
    index(tmp_path, 30)
    found = trend_of(tmp_path, tmp_path / "reports", 20)
    shown = {**found.as_json(), "schema": "defectd.api.coil-trend/1"}
    jsonschema.validate(shown, json.loads(SCHEMA.read_text()), cls=jsonschema.Draft202012Validator)
    assert [one.coil for one in found.coils] == [f"C{k}" for k in range(10, 30)]
    assert {one.name: one.direction for one in found.classes} == {"scratches": "rising", "inclusion": "steady"}
    assert {one.name: one.direction for one in found.others}["missed_share"] == "steady"
    assert found.grades == {"A": 10, "B": 10}
    assert (found.coils[1].roll_marks, found.coils[1].periods_m, found.coils[0].missed_share) == (1, (2.041,), 0.01)


def test_few_coils_have_no_direction(tmp_path: Path) -> None:
    """Below eight coils nothing is said."""
    index(tmp_path, 7)
    assert {one.direction for one in trend_of(tmp_path, tmp_path / "reports", 100).classes} == {"unknown"}


def test_chance_has_a_direction_in_one_of_a_hundred_series() -> None:
    """Over 1,000 series of 30 coils with clustered defects."""
    dice = random.Random(2)
    series = ([dice.expovariate(1) ** 2 for _ in range(30)] for _ in range(1000))
    assert sum(abs(kendall_z(one)) > 2.576 for one in series) <= 20
