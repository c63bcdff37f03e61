"""The report of a coil agrees with what is on it; its files are complete, small, and always the same."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fakes import coil_records
from fakes.coil_records import Truth

from edge.coverage.coil_lines import CameraView
from edge.coverage.rolls import Roll
from edge.errors import EvidenceError, ReportError
from edge.report import builder, files, making, reading
from edge.report.coil_report import CoilReport, From
from edge.report.coil_view import CoilView
from edge.report.shelf import SUMMARY, ReportShelf

SCHEMAS = Path(__file__).parents[3] / "edge" / "schema"
RULES = {"surface": None, "windows": [], "critical": 0, "longest_mm": 95.0, "roll_marks": 0, "missed_share": 0.01}
PRODUCTS = [
    {
        "product": "sheet",
        "coils": ["*"],
        "severity": [],
        "ignore": {"head_m": 0.0, "tail_m": 0.0},
        "max_missed_share": 0.05,
        "grades": [{"grade": "A", **RULES}, {"grade": "B", **RULES, "critical": 2, "roll_marks": 1}],
    }
]
ROLLS = (Roll("F7 work roll", 649.5, surface="bottom"),)


def picture(name: str) -> bytes:
    if "gone" in name:
        raise EvidenceError("gone", f"{name} was deleted")
    return b"\xff\xd8" + name.encode() + b"\xff\xd9"


def made(folder: Path, truth: Truth, counted_from: From = "head") -> tuple[CoilReport, CoilView]:
    found = reading.read(folder, coil_records.write(folder, truth), PRODUCTS, ROLLS)
    return (
        builder.report_of(found.content, found.judgement, picture, counted_from),
        CoilView(found.content, counted_from),
    )


def content(kind: Any, report: CoilReport, view: CoilView, paper: str = "a4") -> bytes:
    return b"".join(files.blocks(kind, report, view, paper))


def checked(report: CoilReport) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(report.as_json()))
    schema = json.loads((SCHEMAS / "coil-report-1.json").read_text())
    jsonschema.validate(found, schema, cls=jsonschema.Draft202012Validator)
    return found


def test_report_agrees_with_the_coil(tmp_path: Path) -> None:
    """Defects, classes, holes, width, roll mark and grade are those that the coil was made with."""
    truth = coil_records.usual()
    report, view = made(tmp_path, truth)
    found = checked(report)
    assert found["defects"] == {
        name: sum(one.severity == name for one in truth.defects) for name in ("minor", "major", "critical")
    }
    rows = list(csv.DictReader(content("csv", report, view).decode().splitlines()))
    places = sorted((one.from_m or 0, one.class_name) for one in truth.defects)
    assert [(float(row["from_m"]), row["class"]) for row in rows] == [
        (pytest.approx(m, abs=0.001), name) for m, name in places
    ]
    gaps = [(gap["surface"], gap["from_m"], gap["to_m"], gap["kind"], gap["cause"]) for gap in found["gaps"]]
    assert gaps == sorted(truth.holes, key=lambda hole: hole[1])
    assert found["width"]["out"] == [[500.0, 519.0]]
    assert found["width"]["most_mm"] == pytest.approx(1204.6)
    (mark,) = found["marks_of_rolls"]
    assert mark["period_m"] == pytest.approx(2.041, abs=0.001)
    assert (mark["seen"], mark["across_mm"], mark["lane"]) == (21, pytest.approx(412, abs=1), "bottom")
    assert mark["rolls"] == ["F7 work roll"]
    assert found["grade"] == "B"
    assert found["reasons"] == [
        "not A: critical defects: 1 at 812.2 m, limit 0",
        "not A: roll marks: 1, limit 0",
    ]
    assert found["seq"]["is_complete"]
    assert sum(one["minor"] + one["major"] + one["critical"] for one in found["density"]) == len(truth.defects)


def test_places_from_the_tail_mirror_those_from_the_head(tmp_path: Path) -> None:
    """Each place is the length minus that from the head; nothing else changes."""
    truth = coil_records.usual()
    head, tail = (checked(made(tmp_path, truth, counted_from)[0]) for counted_from in ("head", "tail"))
    assert tail["grade"] == head["grade"]
    assert tail["reasons"][0] == "not A: critical defects: 1 at 231.0 m, limit 0"
    assert sorted(mark[1] for mark in tail["map"]["marks"]) == pytest.approx(
        sorted(truth.length_m - (one.to_m or 0) for one in truth.defects), abs=0.001
    )
    assert [gap["from_m"] for gap in tail["gaps"]] == pytest.approx(
        sorted(truth.length_m - gap["to_m"] for gap in head["gaps"]), abs=0.002
    )


def test_two_cameras_report_one_defect_once(tmp_path: Path) -> None:
    """Where two cameras of a surface overlap, the map and the rows have one defect; `reports` counts both."""
    cameras = (CameraView("left", "top", "left", 0.0), CameraView("right", "top", "left", 580.0))
    one = coil_records.one_defect(2, 10.0, 590.0, camera="left")
    same = coil_records.one_defect(3, 10.004, 593.0, camera="right", severity="major")
    other = coil_records.one_defect(4, 10.0, 900.0, camera="right")
    report, view = made(tmp_path, Truth(defects=(one, same, other), cameras=cameras))
    assert (report.defects, report.reports) == (2, 3)
    assert [row.across_mm for row in view.defects()] == [(580.0, 603.0), (890.0, 910.0)]
    assert checked(report)["classes"][0]["surfaces"] == {"top": 2}


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    """A coil that runs, unplaced defects, missing events and a deleted picture are stated, and give no grade."""
    gone = coil_records.one_defect(2, 3.0, 100.0, evidence="defect/gone.jpg", severity="critical")
    unplaced = replace(
        gone, seq=3, track_id="t3", from_m=None, to_m=None, across_mm=None, severity="minor", evidence=None
    )
    truth = Truth(defects=(gone, unplaced), has_ended=False, missing_seq=True)
    report, view = made(tmp_path, truth)
    found = checked(report)
    assert (found["so_far"], found["unplaced"], found["grade"]) == (True, 1, "not graded")
    assert [one["no_picture"] for one in found["worst"]] == ["the picture was deleted", "no picture was kept"]
    page = content("html", report, view).decode()
    for words in ("Coil A4711, so far", "Not complete: 1 event missing", "1 defect at unknown places not shown"):
        assert words in page
    with pytest.raises(ValueError, match="cannot count from the tail"):
        made(tmp_path, truth, "tail")


def test_page_has_everything_and_runs_nothing(tmp_path: Path) -> None:
    """One file without script or request; a name is text, also in a spreadsheet."""
    name = '=<script>alert("1")</script>'
    truth = replace(coil_records.usual(name), coil=name)
    evil = replace(truth.defects[0], class_name="=cmd()", evidence="defect/one.jpg", severity="critical")
    report, view = made(tmp_path, replace(truth, defects=(evil, *truth.defects[1:])))
    page = content("html", report, view).decode()
    assert "<script" not in page
    assert "://" not in page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "&lt;script&gt;" in page
    assert page.count("data:image/jpeg;base64,") == 1
    assert ",'=cmd()," in content("csv", report, view).decode()


@pytest.mark.parametrize("kind", ["json", "csv", "csv.gz", "html", "png", "pdf"])
def test_same_record_gives_the_same_bytes(tmp_path: Path, kind: str) -> None:
    """No clock, no random number gets into a file."""
    if kind in ("png", "pdf"):
        pytest.importorskip("reportlab")
    first = content(kind, *made(tmp_path, coil_records.usual()))
    assert first == content(kind, *made(tmp_path, coil_records.usual()))
    assert first


def test_many_defects_become_cells(tmp_path: Path) -> None:
    """Above the limit the map counts by cells, none is lost, and the files stay small."""
    report, view = made(tmp_path, coil_records.many(6000))
    assert report.map.marks is None
    assert sum(cell.defects for cell in report.map.cells or ()) == 6000
    assert len(content("json", report, view)) + len(content("html", report, view)) < 2_000_000
    packed = content("csv.gz", report, view)
    assert gzip.decompress(packed) == content("csv", report, view)


@pytest.mark.parametrize("paper", ["a4", "letter"])
def test_pdf_has_names_of_every_script(tmp_path: Path, paper: str) -> None:
    """German, Greek and Chinese can be read back; a character without a glyph is named, not shown as a box."""
    pytest.importorskip("reportlab")
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is missing: install poppler-utils")
    name = "Größe Ξένη 冷轧钢卷 한"
    report, view = made(tmp_path, replace(coil_records.usual(name), coil=name))
    file = tmp_path / "coil.pdf"
    file.write_bytes(content("pdf", report, view, paper))
    text = subprocess.run(["pdftotext", "-layout", file, "-"], capture_output=True, text=True, check=True).stdout
    for words in (
        "Coil Größe Ξένη 冷轧钢卷 ?",
        "roll mark, every 2.041 m",
        "F7 work roll",
        "U+D55C",
        "812.21 m",
        "Events 1 to 83",
    ):
        assert words in text
    info = subprocess.run(["pdfinfo", file], capture_output=True, text=True, check=True).stdout
    assert ("A4" if paper == "a4" else "letter") in info
    fonts = subprocess.run(["pdffonts", file], capture_output=True, text=True, check=True).stdout.splitlines()[2:]
    assert fonts
    assert all(" yes yes yes " in line for line in fonts), "embedded, a subset, with Unicode"


def test_pdf_without_reportlab_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the extra, and the formats that need nothing."""
    monkeypatch.setitem(sys.modules, "reportlab", None)
    monkeypatch.setitem(sys.modules, "reportlab.pdfbase", None)
    with pytest.raises(ReportError, match=r"pip install 'defectd\[report\]'; .html, .csv and .json need nothing"):
        content("pdf", *made(tmp_path, coil_records.usual()))


def test_shelf_knows_what_is_out_of_date(tmp_path: Path) -> None:
    """A file is current until its record or judgement changes; what has no record goes, then the oldest."""
    path = coil_records.write(tmp_path, coil_records.usual())
    shelf = ReportShelf(tmp_path / "reports")
    coil = making.make(making.Sources(tmp_path, tmp_path / "evidence", PRODUCTS, ROLLS), "A4711")
    (written,) = making.shelve(coil, shelf, ("json",), with_summary=True)
    file = shelf.path_of(coil.report.id, "json")
    assert shelf.is_current(file, reading.sources_ns(tmp_path, path))
    summary = shelf.summary(coil.report.id)
    assert summary is not None
    schema = json.loads((SCHEMAS / "coil-report-summary-1.json").read_text())
    jsonschema.validate(summary, schema, cls=jsonschema.Draft202012Validator)
    assert summary["files"][0]["sha256"] == written.sha256
    path.touch()
    assert not shelf.is_current(file, reading.sources_ns(tmp_path, path))
    (shelf.folder / "other.head.json").touch()
    shelf.keep({coil.report.id}, 1 << 20)
    assert sorted(each.name for each in shelf.folder.iterdir()) == [
        file.name,
        shelf.path_of(coil.report.id, SUMMARY).name,
    ]
    shelf.keep({coil.report.id}, 0)
    assert not list(shelf.folder.iterdir())
