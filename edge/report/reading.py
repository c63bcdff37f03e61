"""Reads what a report is made of: record, judgement, pictures; judges the coil itself where nobody has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from edge.coverage import coil_judgement, coil_record, grading
from edge.coverage.coil_grading import CoilFactsBuilder
from edge.coverage.coil_judgement import CoilJudgement
from edge.coverage.coil_lines import Item
from edge.coverage.rolls import Roll
from edge.errors import EvidenceError
from edge.evidence import archive
from edge.report.record_content import RecordContent

MAX_PICTURE_BYTES: Final = 60_000
MAX_PICTURE_PX: Final = 480
JPEG_QUALITY: Final = 85


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of one coil.  sources_ns: when the files that it comes of were changed last."""

    content: RecordContent
    judgement: CoilJudgement | None
    sources_ns: int


def sources_ns(folder: Path, path: Path) -> int:
    """When record or judgement were changed last.  Raises OSError."""
    judgement = coil_judgement.path_of(folder, coil_record.record_id(path))
    times = [path.stat().st_mtime_ns]
    if judgement.exists():
        times.append(judgement.stat().st_mtime_ns)
    return max(times)


def read(folder: Path, path: Path, products: Sequence[Mapping[str, Any]], rolls: Sequence[Roll]) -> Found:
    """The content of a record with its judgement.  Raises OSError, ValueError.

    A coil that the judge has graded keeps that grade; another one is graded by these rules, as the judge does it.
    """
    changed_ns = sources_ns(folder, path)
    known = coil_judgement.load(folder, coil_record.record_id(path))
    if known is not None and known.grade is not None:
        return Found(RecordContent.of(coil_record.items(path)), known, changed_ns)
    facts = CoilFactsBuilder()
    content = RecordContent.of(_both(coil_record.items(path), facts))
    summary = content.summary()
    marks, streaks = facts.search(rolls)
    grade = None
    if summary.coil is not None:
        grade = grading.grade_of(facts.facts(marks), products).as_json()
    judgement = CoilJudgement(
        summary.id,
        summary.coil or "",
        tuple(mark.as_json() for mark in marks),
        tuple(streak.as_json() for streak in streaks),
        grade,
        release=None if known is None else known.release,
    )
    return Found(content, judgement, changed_ns)


def _both(items: Iterator[Item], facts: CoilFactsBuilder) -> Iterator[Item]:
    for item in items:
        facts.add(item)
        yield item


def picture(folder: Path, path: str) -> bytes:
    """A picture of evidence, small enough for a report.  Raises EvidenceError."""
    jpeg = archive.without_facts(archive.read(folder, path))
    if len(jpeg) <= MAX_PICTURE_BYTES:
        return jpeg
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise EvidenceError("damaged", "the picture cannot be decoded")
    share = min(1.0, MAX_PICTURE_PX / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * share)), max(1, round(image.shape[0] * share))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
