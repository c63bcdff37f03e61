"""The configuration's sections about the judgement of a coil: products with their rules, and the rolls of the line."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from edge.config.value_types import Name, Section, Share

DefectClass = Annotated[str, Field(min_length=1, max_length=100)]
Label = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s])?$")]
Pattern = Annotated[str, Field(min_length=1, max_length=128)]
Surface = Literal["top", "bottom"]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Millimeters = Annotated[float, Field(ge=0.0, le=1e6)]
Meters = Annotated[float, Field(ge=0.0, le=100_000.0)]
NO_GRADES = ("reject", "not graded")
"""What a coil is that has no grade."""


class SeverityRule(Section):
    severity: Literal["minor", "major", "critical"] = Field(description="severity of a defect that this rule is about")
    classes: list[DefectClass] | None = Field(None, min_length=1, description="classes of the model; null: all")
    surface: Surface | None = Field(None, description="null: both surfaces")
    min_length_mm: Millimeters = Field(0.0, description="from this length on; an unknown length counts as long")
    min_width_mm: Millimeters = Field(0.0, description="from this width on; an unknown width counts as wide")


class Window(Section):
    length_m: float = Field(gt=0.0, le=100_000.0, description="length of the window along the strip")
    max: Count = Field(description="most defects in any such window")
    severity: Literal["minor", "major", "critical"] = Field("minor", description="of this severity or worse")
    classes: list[DefectClass] | None = Field(None, min_length=1, description="null: all classes")


class GradeRules(Section):
    grade: Label = Field(description="name of the grade; several rows of one grade have to hold together")
    surface: Surface | None = Field(None, description="counts this surface only; null: all defects together")
    critical: Count | None = Field(None, description="most critical defects")
    major: Count | None = Field(None, description="most major defects, critical ones included")
    minor: Count | None = Field(None, description="most defects of any severity")
    major_in_100m: Count | None = Field(None, description="most major or critical defects in any 100 m")
    in_10m: Count | None = Field(None, description="most defects in any 10 m")
    windows: list[Window] = Field([], max_length=20, description="further limits in any window of a length")
    longest_mm: Millimeters | None = Field(None, description="length of the longest defect, at most")
    roll_marks: Count | None = Field(None, description="most places of rolls that mark the strip")
    missed_share: Share | None = Field(None, description="share of the meters that were not inspected, at most")
    partial_share: Share | None = Field(None, description="the same, with meters that were inspected in part")
    width_mm: tuple[Millimeters, Millimeters] | None = Field(None, description="[least, most] width of the strip")

    @field_validator("grade")
    @classmethod
    def _is_a_grade(cls, value: str) -> str:
        if value.lower() in NO_GRADES:
            raise ValueError(f"{value!r} is what a coil without a grade is called; choose another name")
        return value

    @field_validator("width_mm")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] > value[1]:
            raise ValueError("should be [least, most]")
        return value


class Ignored(Section):
    head_m: Meters = Field(0.0, description="defects that lie within these first meters do not count")
    tail_m: Meters = Field(0.0, description="defects that lie within these last meters do not count")


class Product(Section):
    product: Label = Field(description="name of the product")
    coils: list[Pattern] = Field(
        ["*"], min_length=1, max_length=100, description="names of its coils, with * and ?; the first product counts"
    )
    severity: list[SeverityRule] = Field(
        [], max_length=100, description="severities of defects: the worst rule that applies; none: minor"
    )
    ignore: Ignored = Field(Ignored(), description="ends of the coil whose defects do not count")
    max_missed_share: Share = Field(
        0.05, description="a coil of which more was not inspected is not graded, whatever the grades say"
    )
    grades: list[GradeRules] = Field(
        [], max_length=50, description="grades, the best one first; the first one whose rules all hold is the coil's"
    )


class Roll(Section):
    name: Name = Field(description="name of the roll, as alarms and reports state it")
    diameter_mm: float = Field(gt=0.0, le=10_000.0, description="diameter of its barrel")
    stretch: float = Field(
        1.0, gt=0.0, le=100.0, description="length of strip at the camera for each length of strip at the roll"
    )
    surface: Surface | None = Field(None, description="the side that it touches; null: both")
    since: dt.date | None = Field(None, description="first day with this diameter; grinding changes it")
    until: dt.date | None = Field(None, description="last day with this diameter")

    @model_validator(mode="after")
    def _is_consistent(self) -> Roll:
        if self.since is not None and self.until is not None and self.since > self.until:
            raise ValueError(f"until ({self.until}) is before since ({self.since}); exchange them")
        return self
