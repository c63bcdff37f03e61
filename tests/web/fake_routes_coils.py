"""Coils of the fake node: the real handlers over made-up records, reports made at once."""

from __future__ import annotations

import random
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from fake_routes_labels import OwnThread

sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes import coil_records

from edge.coverage import coil_judgement, coil_record
from edge.coverage.coil_grading import grade_record
from edge.coverage.coil_judgement import CoilJudgement
from edge.coverage.coil_map import CoilMaps
from edge.coverage.rolls import Roll
from edge.errors import ReportError
from edge.evidence.archive import Archive
from edge.host.clock import SystemClock
from edge.report import files, making
from edge.report.shelf import ReportShelf
from edge.web.api import coil_reports, coils
from edge.web.refusal import Refusal
from edge.web.route import Request

COUNT = 24
_PLACE = tempfile.TemporaryDirectory(prefix="fake-coils-")
FOLDER, EVIDENCE = Path(_PLACE.name) / "coils", Path(_PLACE.name) / "evidence"
ROLLS = (Roll("F7 work roll", 649.5, surface="bottom"), Roll("bridle 3", 660.1, surface="bottom"))
_ROW = {"surface": None, "windows": [], "critical": 0, "major_in_100m": 4, "in_10m": 8, "longest_mm": 95.0}
PRODUCTS = [
    {
        "product": "exposed",
        "coils": ["*"],
        "severity": [],
        "ignore": {"head_m": 5.0, "tail_m": 5.0},
        "max_missed_share": 0.05,
        "grades": [
            {"grade": "A", **_ROW, "roll_marks": 0, "missed_share": 0.005},
            {"grade": "B", **_ROW, "critical": 2, "major_in_100m": 20, "in_10m": 60, "roll_marks": 1},
        ],
    }
]


def _pictures() -> list[str]:
    """Tiles of steel with a mark on each."""
    dice = np.random.default_rng(4)
    archive = Archive(EVIDENCE, max_bytes=1 << 26, min_free_bytes=0)
    archive.open()
    names = []
    for k in range(12):
        image = (112 + dice.normal(0, 9, (128, 128))).astype(np.uint8)
        image = cv2.blur(image, (1, 9))
        for _ in range(4):
            x, y = (int(n) for n in dice.integers(20, 108, 2))
            cv2.line(image, (x, y), (x + int(dice.integers(-6, 6)), y + 26), 30 + 190 * (k % 2), 2)
        jpeg = cv2.imencode(".jpg", image)[1].tobytes()
        names.append(archive.add("defect", "top", jpeg, {"class": "scratches"}).path)
    archive.close()
    return names


def _made() -> None:
    names, dice = _pictures(), random.Random(8)
    for number in range(COUNT):
        name = f"A{4711 + number}"
        truth = replace(coil_records.usual(name, 20 + number * 2, number, names), number=number)
        if number % 3:  # no roll mark on most coils
            truth = replace(truth, defects=truth.defects[: 20 + number * 2])
        if number == 5:
            truth = replace(coil_records.many(6000), number=number)
        is_last = number == COUNT - 1
        defects = tuple(replace(defect, coil=name) for defect in truth.defects)
        truth = replace(truth, coil=name, has_ended=not is_last, defects=defects)
        coil_records.write(FOLDER, truth)
        grade, marks, streaks = grade_record(coil_records.lines(truth), PRODUCTS, ROLLS)
        if not is_last:
            shown = tuple(mark.as_json() for mark in marks), tuple(one.as_json() for one in streaks)
            release = None
            if dice.random() < 0.4 and grade.grade in "AB":
                stamp = "2026-11-22T15:10:00.000Z"
                release = {"by": "J. Weber", "grade": grade.grade, "reason": None, "time": stamp}
            coil_judgement.save(FOLDER, CoilJudgement(truth.id, name, *shown, grade.as_json(), "", release))
    coil_records.index(FOLDER)


_made()
PAGE = SimpleNamespace(
    work=OwnThread(),
    clock=SystemClock(),
    coils=CoilMaps(FOLDER),
    settings=SimpleNamespace(coils=FOLDER, coil_reports=FOLDER / "reports", config_path=None),
)


async def _answer(handler: Any, request: Any, **params: str) -> Any:
    query = {key: [value.decode() for value in values] for key, values in request.request.query_arguments.items()}
    try:
        answer = await handler(PAGE, Request("/", params=params, query=query))
    except Refusal as refused:
        error = refused.as_json()["error"]
        return request.refuse(int(refused.status), error["code"], error["reason"], error["remedy"])
    return answer.content_type, answer.body


async def listed(_node: Any, request: Any) -> Any:
    return await _answer(coils.coils, request)


async def trend(_node: Any, request: Any) -> Any:
    return await _answer(coil_reports.trend, request)


async def one(_node: Any, request: Any, name: str) -> Any:
    return await _answer(coils.coil, request, coil=name)


async def report(_node: Any, request: Any, name: str, kind: str) -> Any:
    """Made in this process: the real page has a child make it."""
    path = coil_record.find(FOLDER, name)
    if path is None:
        return request.refuse(404, "not_found", "there is no record of this coil")
    made = making.make(making.Sources(FOLDER, EVIDENCE, PRODUCTS, ROLLS), name)
    shelf = ReportShelf(FOLDER / "reports")
    try:
        making.shelve(made, shelf, (files.format_of(f".{kind}") or "json",), with_summary=True)
    except ReportError as error:
        return request.refuse(409, "failed", str(error))
    return coil_reports.TYPES[kind].partition(";")[0], shelf.path_of(made.report.id, kind).read_bytes()


ROUTES = {
    ("GET", "/coils"): listed,
    ("GET", "/coils/trend"): trend,
    ("GET", r"/coils/([^/]+)\.(json|html|png|pdf|csv)"): report,
    ("GET", "/coils/([^/]+)"): one,
}
