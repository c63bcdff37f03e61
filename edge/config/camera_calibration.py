"""What calibrations add to a camera beyond the keys of the configuration, and the parts that it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Side = Literal["left", "right", "top", "bottom"]


class Part(BaseModel):
    """Base of everything in a calibration file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Made(Part):
    """Where a calibrated part comes from."""

    time: str
    version: str
    source: str
    """Where the frames come from, or `by hand`; without credentials."""
    frames: int = Field(ge=0)
    frame_px: tuple[int, int] | None
    """Width and height."""
    overruled: tuple[str, ...] = ()
    """What spoke against the part, and a person overruled with `--i-have-looked`."""

    @model_serializer(mode="wrap")
    def _without_empty(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Earlier versions do not know `overruled`, and must still read files in which nothing was overruled."""
        values: dict[str, Any] = serialize(self)
        return values if self.overruled else {key: value for key, value in values.items() if key != "overruled"}


class PartMade(Part):
    """A part that records where it comes from."""

    made: Made


class Track(Part):
    """The region follows the edges of the strip, which are found in each frame.

    seen_px: range in which each edge was found during calibration, from the left or the top.
    margin_px: distance that the region keeps from each edge.
    """

    seen_px: dict[Side, tuple[float, float]] = Field(min_length=1)
    margin_px: int = Field(ge=0, le=1000)


class Spread(Part):
    """Quantiles over frames: 1 % are below `low`, half below `middle`, 99 % below `high`."""

    low: float
    middle: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Spread:
        if not self.low <= self.middle <= self.high:
            raise ValueError("low, middle and high are not in ascending order")
        return self


class Features(Part):
    """Mean and scale of each of the network's features over good tiles.

    network: sha256 of the bundle's fp32 network, also where its int8 network runs.
    """

    network: str = Field(pattern="^[0-9a-f]{64}$")
    mean: tuple[float, ...] = Field(min_length=1, max_length=4096)
    scale: tuple[PositiveFloat, ...] = Field(min_length=1, max_length=4096)

    @model_validator(mode="after")
    def _same_length(self) -> Features:
        if len(self.mean) != len(self.scale):
            raise ValueError(f"{len(self.mean)} means and {len(self.scale)} scales")
        return self


class Reference(PartMade):
    """What good frames looked like: the drift watch compares with it.  Made by `edge.vision.drift.reference`.

    brightness: gray levels.  sharpness: difference to the next pixel over difference to the fourth.
    distance: of a frame's median tile from the good tiles.  unsure: share of unsure frames.
    """

    brightness: Spread
    sharpness: Spread
    distance: Spread | None = None
    features: Features | None = None
    unsure: float | None = Field(None, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _belong_together(self) -> Reference:
        if (self.distance is None) != (self.features is None):
            raise ValueError("distance and features need each other; one of them is missing")
        return self


@dataclass(frozen=True, slots=True)
class CameraCalibration:
    """Results of calibrations that a camera uses and that no key of the configuration holds."""

    made_px: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Width and height of the frames that each part in use was made with."""
    track: Track | None = None
    """How the region follows the strip; None where it is fixed."""
    reference: Reference | None = None
    """What good frames looked like: the drift watch compares with it."""
    overruled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What a person overruled when the anomaly model was made, by the sha256 of its network."""
    taught: tuple[Path, ...] = ()
    """Files of taught classes, the newest first: `edge.vision.taught_classes`."""

    def as_json(self) -> dict[str, Any]:
        """For the hash of the configuration: events carry it."""
        return {
            "made_px": {name: list(size) for name, size in self.made_px.items()},
            "track": None if self.track is None else self.track.model_dump(mode="json"),
            "reference": None if self.reference is None else self.reference.model_dump(mode="json"),
            **({"taught": [path.name for path in self.taught]} if self.taught else {}),
        }
