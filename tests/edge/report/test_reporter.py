"""The daemon has each ended coil reported once by another process, also after a kill, and publishes the last one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import jsonschema
import pytest
from fakes import coil_records
from fakes.clock import FakeClock

from edge.coverage import coil_judgement, coil_record
from edge.coverage.coil_judgement import CoilJudgement
from edge.report import making
from edge.report.reporter import TRIES, CoilReporter, Wishes, launcher
from edge.report.shelf import SUMMARY, ReportShelf

SCHEMA = Path(__file__).parents[3] / "edge" / "schema" / "coil-report-summary-1.json"
GRADE = {"coil": "A4711", "product": "sheet", "grade": "B", "so_far": False, "reasons": ["it is"], "rules": []}


class Ended:
    """A process that has ended."""

    def __init__(self, code: int) -> None:
        self.returncode = code

    def poll(self) -> int:
        return self.returncode


class Scene:
    """A reporter whose processes are calls; `works`: whether they succeed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.published: list[dict[str, Any]] = []
        self.started: list[str] = []
        self.works = True
        self.shelf = ReportShelf(folder / "reports")
        self.reporter = self.started_again()

    def started_again(self) -> CoilReporter:
        self.reporter = CoilReporter(
            self.folder, self.shelf, lambda: Wishes(True, 1 << 20), self.launch, self.publish, self.clock
        )
        return self.reporter

    def launch(self, record_id: str, said: IO[bytes]) -> Any:
        self.started.append(record_id)
        if not self.works:
            said.write(b"some progress\ndefectd: no space left\n")
            return Ended(1)
        sources = making.Sources(self.folder, self.folder)
        making.shelve(making.make(sources, record_id), self.shelf, ("json",), with_summary=True)
        return Ended(0)

    def publish(self, summary: dict[str, Any]) -> None:
        jsonschema.validate(summary, json.loads(SCHEMA.read_text()), cls=jsonschema.Draft202012Validator)
        self.published.append(summary)

    def end_coil(self, *, graded: bool = True) -> str:
        record_id = coil_record.record_id(coil_records.write(self.folder, coil_records.usual(count=5)))
        if graded:
            coil_judgement.save(self.folder, CoilJudgement(record_id, "A4711", grade=GRADE))
        return record_id


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_coil_is_reported_once_it_is_graded(scene: Scene) -> None:
    """Not before; then once, and its grade and hash are published."""
    record_id = scene.end_coil(graded=False)
    scene.reporter.turn()
    assert not scene.started
    coil_judgement.save(scene.folder, CoilJudgement(record_id, "A4711", grade=GRADE))
    for _ in range(3):
        scene.reporter.turn()
    assert scene.started == [record_id]
    (summary,) = scene.published
    assert (summary["coil"], summary["grade"], summary["error"]) == ("A4711", "B", None)
    assert [one["format"] for one in summary["files"]] == ["json"]


def test_what_a_kill_left_is_made_after_the_start(scene: Scene) -> None:
    """A record without a report gets one; a summary that is there is published again, without another process."""
    record_id = scene.end_coil()
    (scene.folder / "reports").mkdir()
    (scene.folder / "reports" / f"{record_id}.head.json.99.new").write_text("half")
    scene.started_again().turn()
    assert scene.started == [record_id]
    assert not list(scene.shelf.folder.glob("*.new"))
    scene.started_again().turn()
    assert scene.started == [record_id]
    assert [one["id"] for one in scene.published] == [record_id, record_id]


def test_a_release_makes_a_new_report(scene: Scene) -> None:
    """It names who released the coil."""
    record_id = scene.end_coil()
    scene.reporter.turn()
    judgement = coil_judgement.load(scene.folder, record_id)
    assert judgement is not None
    release = {"by": "J. Weber", "grade": "B", "reason": None, "time": "2026-11-22T15:00:00.000Z"}
    coil_judgement.save(scene.folder, replace(judgement, release=release))
    scene.reporter.turn()
    assert [one["released"] for one in scene.published] == [None, release]


def test_a_failure_is_reported_and_given_up(scene: Scene) -> None:
    """After some tries the grade is published with the reason why there are no files."""
    scene.works = False
    scene.end_coil()
    for _ in range(3 * TRIES):
        scene.reporter.turn()
        scene.clock.advance(400.0)
    assert len(scene.started) == TRIES
    (summary,) = [one for one in scene.published if one["error"]]
    assert (summary["grade"], summary["error"], summary["files"]) == ("B", "defectd: no space left", [])


def test_process_makes_the_files(tmp_path: Path) -> None:
    """The real command puts files and summary on the shelf."""
    config = tmp_path / "config.yaml"
    config.write_text('node: line3\nstate_dir: state\ncameras: [{name: top, source: "strip:"}]\n')
    path = coil_records.write(tmp_path / "state" / "coils", coil_records.usual(count=5))
    with (tmp_path / "said").open("w+b") as said:
        process = launcher(config)(coil_record.record_id(path), said)
        try:
            assert process.wait(60) == 0, (tmp_path / "said").read_text()
        finally:
            process.kill()
            process.wait()
    shelf = ReportShelf(tmp_path / "state" / "coils" / "reports")
    summary = shelf.summary(coil_record.record_id(path))
    assert summary is not None
    assert {"json", "html"} <= {one["format"] for one in summary["files"]}
    assert shelf.path_of(coil_record.record_id(path), SUMMARY).exists()
