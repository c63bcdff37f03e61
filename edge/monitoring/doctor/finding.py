"""One result of an examination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Grade = Literal["ok", "warning", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was examined, its condition, and what to do about it.  remedy: "" where nothing has to be done."""

    about: str
    grade: Grade
    says: str
    remedy: str = ""
