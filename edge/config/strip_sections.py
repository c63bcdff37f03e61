"""The configuration's sections about the strip: its speed and its coils, their records, and its width."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from edge.config.value_types import Name, Section

PATH_STEP = re.compile(r"\.?([A-Za-z_][\w-]*)|\[([0-9]{1,6})\]|\['([^'\\]{1,100})'\]")
"""One step of a JSON path: a name, an index, a name in quotes."""
_PATH = re.compile(rf"\$?(?:{PATH_STEP.pattern}){{1,16}}")
TopicName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^+#\s\x00-\x1f$][^+#\x00-\x1f]*$")]


class Travel(Section):
    speed_m_per_s: float | None = Field(
        None, gt=0.0, le=100.0, description="speed of a strip whose speed never changes"
    )
    topic: TopicName | None = Field(None, description="topic at `mqtt.broker` that carries the speed; no wildcards")
    path: str | None = Field(
        None, max_length=200, description="JSON path of the speed, such as $.line.speed; null: the whole payload"
    )
    factor: float = Field(
        1.0, gt=0.0, le=1e6, description="from the topic's unit to m/s: 0.001 for mm/s, 1/60 for m/min"
    )
    max_m_per_s: float = Field(50.0, gt=0.0, le=1000.0, description="a higher speed is refused as impossible")
    delay_s: float = Field(0.0, ge=0.0, le=10.0, description="average age of a speed when its message arrives")
    stale_s: float = Field(5.0, ge=0.2, le=3600.0, description="without a message for this long the speed is unknown")
    interpolation: Literal["linear", "previous"] = Field(
        "linear", description="previous: the source reports changes only"
    )
    coil_topic: TopicName | None = Field(None, description="topic that names the coil; a change starts a coil at 0 m")
    coil_path: str | None = Field(None, max_length=200, description="JSON path of the name; null: the whole payload")

    @field_validator("path", "coil_path")
    @classmethod
    def _is_json_path(cls, value: str | None) -> str | None:
        if value is not None and not _PATH.fullmatch(value):
            raise ValueError("should be names and indices, such as $.line.speed, values[0].v or $['line speed']")
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> Travel:
        wrong = []
        if self.speed_m_per_s is not None and self.topic is not None:
            wrong.append("speed_m_per_s and topic are both set; keep one of them")
        for key in ("topic", "coil_topic"):
            path = key.replace("topic", "path")
            if getattr(self, path) is not None and getattr(self, key) is None:
                wrong.append(f"{path} is set but {key} is not; set it too")
        if self.topic is not None and self.topic == self.coil_topic and self.path == self.coil_path:
            wrong.append("topic and coil_topic are the same value; give each its own path")
        if wrong:
            raise ValueError("; also, ".join(wrong))
        return self


class Coils(Section):
    enabled: bool = Field(True, description="keep a record of each coil in state_dir/coils")
    max_mb: int = Field(512, ge=8, le=1_000_000, description="maximum size of all records, MiB")
    max_coils: int = Field(1_000, ge=1, le=100_000, description="maximum number of records")
    report: bool = Field(True, description="make the report of each coil when it ends, and publish its summary")
    reports_mb: int = Field(128, ge=8, le=1_000_000, description="maximum size of all reports, MiB")


class StripWidth(Section):
    nominal_mm: float = Field(gt=0.0, le=100_000.0, description="ordered width of the strip")
    tolerance_mm: float = Field(gt=0.0, le=10_000.0, description="largest deviation that is in order, both ways")


class Lane(Section):
    name: Name = Field(description="name of the lane, on all cameras that see it")
    from_mm: float = Field(ge=-100_000.0, le=100_000.0, description="from the operator side of the strip to its start")
    to_mm: float = Field(ge=-100_000.0, le=100_000.0, description="from the operator side of the strip to its end")

    @model_validator(mode="after")
    def _has_a_width(self) -> Lane:
        if self.from_mm >= self.to_mm:
            raise ValueError(f"from_mm ({self.from_mm:g}) is not below to_mm ({self.to_mm:g}); exchange them")
        return self


def side_by_side(lanes: Sequence[Lane]) -> list[Lane]:
    """The lanes from the operator side on.  Raises ValueError where two overlap, or have one name."""
    ordered = sorted(lanes, key=lambda lane: lane.from_mm)
    for lane, following in pairwise(ordered):
        if following.from_mm < lane.to_mm:
            raise ValueError(
                f"{lane.name!r} and {following.name!r} overlap between {following.from_mm:g} and "
                f"{min(lane.to_mm, following.to_mm):g} mm; move a border"
            )
    names = [lane.name for lane in ordered]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"the name {', '.join(map(repr, twice))} is used twice; rename one")
    return ordered
