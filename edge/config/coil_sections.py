"""The configuration's sections about coils: their records, and the width of the strip."""

from __future__ import annotations

from pydantic import Field

from edge.config.value_types import Section


class Coils(Section):
    enabled: bool = Field(True, description="keep a record of each coil in state_dir/coils")
    max_mb: int = Field(512, ge=8, le=1_000_000, description="maximum size of all records, MiB")
    max_coils: int = Field(1_000, ge=1, le=100_000, description="maximum number of records")


class StripWidth(Section):
    nominal_mm: float = Field(gt=0.0, le=100_000.0, description="ordered width of the strip")
    tolerance_mm: float = Field(gt=0.0, le=10_000.0, description="largest deviation that is in order, both ways")
