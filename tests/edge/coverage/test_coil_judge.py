"""The judge of coils reads records as they grow: roll marks, the grade so far, the grade at the end, releases."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from fakes.clock import FakeClock

from edge import config
from edge.coverage import coil_judgement
from edge.coverage.coil_judge import CoilJudge, JudgeRules
from edge.coverage.coil_lines import CameraView, Defect, Ended, Header, Progress, Runs, encoded
from edge.coverage.runs import Run
from edge.errors import CommandError
from edge.event import Origin, as_json

SCHEMA = json.loads((Path(__file__).parents[3] / "edge/schema/event-1.json").read_text("utf-8"))
ID = "20261129T214230123Z-A4711"
PRODUCT = config.Product.model_validate(
    {
        "product": "sheet",
        "severity": [],
        "grades": [{"grade": "A", "minor": 3, "roll_marks": 0, "missed_share": 0.01}, {"grade": "B", "roll_marks": 1}],
    }
).model_dump(mode="json")
ROLLS = ({"name": "WR2", "diameter_mm": 636.6},)


class Plant:
    """A folder of records, a judge and the events that it emits."""

    def __init__(self, folder):
        self.folder = folder
        self.clock = FakeClock()
        self.events = []
        self.seq = 0
        self.path = folder / f"{ID}.jsonl"
        self.coil = "A4711"
        self.start()

    def start(self):
        """A new judge, as after a start of the node."""
        self.judge = CoilJudge(self.folder, JudgeRules.of([PRODUCT], ROLLS), self, self.clock)

    def put(self, event):
        self.events.append(event)

    def write(self, *items):
        with self.path.open("ab") as file:
            for item in items:
                file.write(encoded(item))

    def begin(self, coil="A4711"):
        view = CameraView("top", "top")
        self.write(Header(ID, coil, "line3", "2026-11-29T21:42:30.123Z", 1, cameras=(view,)))

    def defect(self, m, across_mm=500.0):
        self.seq += 1
        across = None if across_mm is None else (across_mm - 5, across_mm + 5)
        self.write(
            Defect(
                self.seq, False, f"t{self.seq}", "2026-11-29T21:42:31.000Z", "top", "top", self.coil, "scratches",
                "minor", 0.9, m, m and m + 0.01, across, 10.0, None,
            )
        )  # fmt: skip

    def mark(self, turns, start_m=5.0):
        for k in range(turns):
            self.defect(start_m + 2.0 * k)

    def end(self, length_m=100.0):
        """The coil ends, and its record is packed."""
        self.write(
            Runs("top", (Run(0.0, length_m, "whole"),)),
            Progress(self.seq, self.seq),
            Ended(self.seq, "2026-11-29T21:50:00.000Z", length_m, "command"),
        )
        (self.folder / f"{ID}.jsonl.gz").write_bytes(gzip.compress(self.path.read_bytes()))
        self.path.unlink()

    def turn(self):
        self.clock.advance(10.0)
        self.judge.turn()

    @property
    def kinds(self):
        return [event.type for event in self.events]


@pytest.fixture
def plant(tmp_path):
    return Plant(tmp_path)


def test_roll_mark_is_suspected_once_also_over_restarts(plant):
    """The fifth mark raises one alarm with period, place and rolls; no restart repeats it."""
    plant.begin()
    plant.mark(5)
    plant.turn()
    assert plant.kinds == ["roll_mark.suspected"]
    detail = plant.events[0].detail
    assert (detail["coil"], detail["period_m"], detail["rolls"]) == ("A4711", 2.0, ["WR2"])
    assert (detail["across_mm"], detail["surface"], detail["members"]) == (500.0, "top", [1, 2, 3, 4, 5])
    plant.mark(4, start_m=15.0)
    plant.turn()
    plant.start()
    plant.turn()
    assert plant.kinds == ["roll_mark.suspected"]
    (mark,) = plant.judge.now.roll_marks
    assert (mark["seen"], mark["places"]) == (9, 9)


def test_grade_so_far_follows_the_record(plant):
    """While the coil runs, its grade says that it is so far."""
    plant.begin()
    plant.write(Runs("top", (Run(0.0, 20.0, "whole"),)), Progress(0, 0))
    plant.turn()
    assert (plant.judge.now.grade["grade"], plant.judge.now.grade["so_far"]) == ("A", True)
    for k in range(4):
        plant.defect(1.3 * k**2, across_mm=100.0 * k)
    plant.write(Progress(4, 4))
    plant.turn()
    assert plant.judge.now.grade["grade"] == "B"
    assert plant.kinds == []


def test_coil_is_graded_when_its_record_is_complete(plant):
    """The grade comes with its reasons in one event and in the file beside the record."""
    plant.begin()
    plant.mark(8)
    plant.turn()
    plant.end()
    plant.turn()
    plant.turn()
    assert plant.kinds == ["roll_mark.suspected", "coil.graded"]
    graded = plant.events[-1].detail
    assert (graded["grade"], graded["product"], graded["defects"], graded["length_m"]) == ("B", "sheet", 8, 100.0)
    assert graded["reasons"][0] == "A: minor is 8 at 5.0 m, limit 3"
    assert len(graded["roll_marks"]) == 1
    kept = coil_judgement.load(plant.folder, ID)
    assert (kept.grade["grade"], kept.roll_marks[0]["period_m"]) == ("B", 2.0)
    assert plant.judge.now.grade is None


def test_coil_that_ended_while_no_node_ran_is_graded_after_the_start(plant):
    """A packed record without a grade gets one, once."""
    plant.begin()
    plant.end()
    plant.turn()
    plant.start()
    plant.turn()
    assert plant.kinds == ["coil.graded"]


def test_record_without_a_coil_is_watched_and_not_graded(plant):
    """Roll marks are suspected without coils, too; there is nothing to grade."""
    plant.begin(coil=None)
    plant.turn()
    assert plant.judge.now.grade is None
    plant.end()
    plant.turn()
    assert plant.kinds == []


def test_defects_without_a_place_are_left_to_the_grade(plant):
    """The watch needs both places of a defect."""
    plant.begin()
    plant.defect(None)
    plant.defect(3.0, across_mm=None)
    plant.turn()
    assert plant.judge.now.roll_marks == ()


def test_release_names_the_person(plant):
    """A release is in the file, and one event says who released the coil with which grade."""
    plant.begin()
    plant.end()
    plant.turn()
    released = plant.judge.release("A4711", "J. Weber", None, None)
    assert (released["release"]["by"], released["release"]["grade"]) == ("J. Weber", "A")
    assert plant.events[-1].type == "coil.released"
    assert plant.events[-1].detail["graded"] == "A"
    assert coil_judgement.load(plant.folder, ID).release["by"] == "J. Weber"


def test_release_with_another_grade_takes_a_reason(plant):
    """Without a reason, before the end, and without a record nothing is released."""
    plant.begin()
    plant.turn()
    with pytest.raises(CommandError, match="it runs, or it is not graded yet"):
        plant.judge.release("A4711", "J. Weber", None, None)
    plant.end()
    plant.turn()
    with pytest.raises(CommandError, match="give a reason for B"):
        plant.judge.release("A4711", "J. Weber", "B", None)
    with pytest.raises(CommandError, match="no record"):
        plant.judge.release("other", "J. Weber", None, None)
    assert plant.judge.release(ID, "J. Weber", "B", "looked at it")["release"]["grade"] == "B"


def test_coil_without_a_grade_is_released_with_a_reason_only(plant):
    """What was rejected, or not graded, is released only with a grade that a person gives and a reason."""
    plant.begin()
    plant.defect(None)
    plant.end()
    plant.turn()
    with pytest.raises(CommandError, match="is not graded: give a grade and a reason"):
        plant.judge.release("A4711", "J. Weber", None, None)


def test_damaged_judgement_is_made_again(plant):
    """A file that cannot be read is no grade."""
    plant.begin()
    plant.end()
    coil_judgement.path_of(plant.folder, ID).write_text("{")
    plant.turn()
    assert plant.kinds == ["coil.graded"]


def test_judgements_without_a_record_go(plant):
    """A judgement is removed when its record is gone."""
    coil_judgement.save(plant.folder, coil_judgement.CoilJudgement("gone", "A1"))
    plant.turn()
    assert list(plant.folder.iterdir()) == []


def test_events_fit_the_schema(plant):
    """What the judge emits is valid by the schema of events."""
    plant.begin()
    plant.mark(8)
    plant.turn()
    plant.end()
    plant.turn()
    plant.judge.release("A4711", "J. Weber", None, None)
    origin = Origin("line3", "boot", {"name": "n", "version": "1", "sha256": "0"}, "0")
    for event in plant.events:
        jsonschema.validate({**as_json(event, origin), "seq": 1}, SCHEMA)
    assert plant.kinds == ["roll_mark.suspected", "coil.graded", "coil.released"]


def test_each_lane_is_judged_for_itself(plant):
    """The strip and its lanes grow side by side; each has its grade so far, and its alarms name the lane."""
    plant.begin("A4711")
    other = plant.folder / "20261129T214300000Z-A-1.jsonl"
    header = Header(other.stem, "A-1", "line3", "2026-11-29T21:43:00.000Z", 1, cameras=(CameraView("top", "top"),))
    with other.open("ab") as file:
        file.write(encoded(replace(header, lane="left", lane_mm=(0.0, 600.0))))
    plant.path, plant.coil = other, "A-1"
    plant.mark(8)
    plant.judge.turn()
    now = plant.judge.now
    assert (now.grade["coil"], now.roll_marks) == ("A4711", ())
    assert now.lanes["left"].grade["coil"] == "A-1"
    assert len(now.lanes["left"].roll_marks) == 1
    (alarm,) = plant.events
    assert (alarm.detail["coil"], alarm.detail["lane"]) == ("A-1", "left")
