"""The judgement of a coil, beside its record: roll marks, grade, and who released it.

STATE_DIR/coils/ID.judgement.json   replaced as a whole; `coil_judge` writes it, reports and the page read it
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.host import atomic_files, regular_file

SCHEMA: Final = "defectd.coil-judgement/1"
ENDING: Final = ".judgement.json"
MAX_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class CoilJudgement:
    """What was found out about one coil.  All values are JSON, as events carry them."""

    id: str
    coil: str
    roll_marks: tuple[dict[str, Any], ...] = ()
    """Of the whole coil once it is graded; before, those that were reported as suspected."""
    streaks: tuple[dict[str, Any], ...] = ()
    """Bands too full of defects to be searched for marks."""
    grade: dict[str, Any] | None = None
    """None: the coil runs, or its end was not seen yet."""
    graded: str | None = None
    """When, UTC."""
    release: dict[str, Any] | None = None
    """Who released it: by, grade, reason, time."""

    @property
    def is_best(self) -> bool:
        """Whether its grade is the best one of its product."""
        if self.grade is None:
            return False
        rules: list[Any] = self.grade.get("rules", [])
        return bool(rules) and bool(rules[0]["grade"] == self.grade["grade"])

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "id": self.id,
            "coil": self.coil,
            "graded": self.graded,
            "grade": self.grade,
            "release": self.release,
            "roll_marks": list(self.roll_marks),
            "streaks": list(self.streaks),
        }


def path_of(folder: Path, record_id: str) -> Path:
    return folder / f"{record_id}{ENDING}"


def save(folder: Path, judgement: CoilJudgement) -> None:
    """Replace the file.  Raises OSError."""
    text = json.dumps(judgement.as_json(), separators=(",", ":"), ensure_ascii=False)
    atomic_files.replace(path_of(folder, judgement.id), text.encode("utf-8", "replace") + b"\n", mode=0o640)


def load(folder: Path, record_id: str) -> CoilJudgement | None:
    """The judgement of a coil; None: there is none, or it cannot be read."""
    try:
        fields = json.loads(regular_file.read(path_of(folder, record_id), MAX_BYTES))
        if fields.pop("schema") != SCHEMA:
            return None
        marks, streaks = tuple(fields.pop("roll_marks")), tuple(fields.pop("streaks"))
        return CoilJudgement(**fields, roll_marks=marks, streaks=streaks)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def remove_orphans(folder: Path, record_ids: set[str]) -> None:
    """Remove the judgements of records that are gone.  Raises OSError."""
    for path in folder.glob(f"*{ENDING}"):
        if path.name.removesuffix(ENDING) not in record_ids:
            path.unlink(missing_ok=True)
