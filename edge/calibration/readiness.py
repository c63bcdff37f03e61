"""What is missing until a camera is ready: every calibration with its state, against the model that decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from edge import config
from edge.config import calibration, tuning
from edge.config.calibration import Calibration
from edge.errors import ConfigError
from edge.model.bundle import Bundle

State = Literal["done", "missing", "stale", "optional"]
"""stale: made for another model, size of tiles or machine; not used.  optional: not made, and not missed either."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step on the way.  since: RFC 3339 UTC; None where nothing was made.  remedy: a command; "" when done.

    required: without it the camera is not ready; other steps make it better.
    """

    name: str
    state: State
    says: str
    since: str | None = None
    remedy: str = ""
    required: bool = False

    def as_json(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("name", "state", "says", "since", "remedy", "required")}


def is_ready(steps: tuple[Step, ...]) -> bool:
    """Whether nothing that is required is missing."""
    return all(step.state == "done" for step in steps if step.required)


def steps_of(camera: config.Camera, settings: config.Config, bundle: Bundle) -> tuple[Step, ...]:
    """In the order in which they are made.

    camera: as the file states it.  bundle: of the model that decides.  Raises ConfigError for a damaged file.
    """
    path = settings.state.calibration(camera.name)
    found = calibration.load(path)
    tiled = calibration.tiled(camera, path)
    return (
        _region(camera, found),
        _tile(camera, tiled, found, bundle),
        _light(camera, found),
        _scale(camera, found),
        _surface(camera, found, bundle),
        _classes(camera, tiled, found, bundle),
        _thresholds(camera, tiled, found, bundle),
        _latency(settings, bundle),
    )


def _command(kind: str, camera: config.Camera) -> str:
    return f"defectd calibrate {kind} --camera {camera.name}"


def _region(camera: config.Camera, found: Calibration) -> Step:
    zones = camera.exclude or (found.roi.exclude if found.roi is not None else ())
    beside = f", without {'1 zone' if len(zones) == 1 else f'{len(zones)} zones'}" if zones else ""
    if camera.roi is not None:
        return Step("roi", "done", f"the configuration gives the region{beside}", required=True)
    if found.roi is None or (found.roi.roi is None and not zones):
        return Step("roi", "missing", "the whole frame is inspected", None, _command("roi", camera), required=True)
    how = "follows the edges of the strip" if found.roi.track is not None else "is fixed"
    return Step("roi", "done", f"the region {how}{beside}", found.roi.made.time, required=True)


def _tile(camera: config.Camera, tiled: config.Camera, found: Calibration, bundle: Bundle) -> Step:
    training = bundle.card.tile_px
    if camera.tile_mm is not None:
        return Step("tile", "done", f"tiles of {camera.tile_mm:g} mm by the configuration", required=True)
    if not calibration.has_open_tile(camera):
        return Step("tile", "done", f"tiles of {camera.tile_px} px by the configuration", required=True)
    if found.roi is not None and found.roi.tile_px is not None:
        return Step("tile", "done", f"tiles of {found.roi.tile_px} px", found.roi.made.time, required=True)
    says = f"tiles of {tiled.tile_px} px, which nobody has chosen; the model was trained with {training} px"
    return Step("tile", "missing", says, None, _command("roi", camera) + " --keep-region --tile-px N", required=True)


def _light(camera: config.Camera, found: Calibration) -> Step:
    if camera.flatfield is not None:
        return Step("flatfield", "done", "the configuration gives a map of the light")
    if found.flatfield is None:
        return Step("flatfield", "missing", "uneven light is not corrected", None, _command("flatfield", camera))
    before, after = found.flatfield.before, found.flatfield.after
    says = f"the light varied by {before:.1%}, corrected by {after:.1%}"
    return Step("flatfield", "done", says, found.flatfield.made.time)


def _scale(camera: config.Camera, found: Calibration) -> Step:
    if camera.scale is not None:
        return Step("scale", "done", f"{camera.scale.mm_per_px:.4g} mm per px by the configuration")
    if found.scale is None:
        return Step("scale", "missing", "defects have no size in mm", None, _command("scale", camera))
    return Step("scale", "done", f"{found.scale.scale.mm_per_px:.4g} mm per px", found.scale.made.time)


def _surface(camera: config.Camera, found: Calibration, bundle: Bundle) -> Step:
    command = _command("normal", camera)
    if camera.anomaly == "classes":
        says = "the configuration lets the classes decide (`anomaly: classes`)"
        return Step("normal", "done", says, required=True)
    if camera.anomaly is not None:
        return Step("normal", "done", "the configuration gives the anomaly models", required=True)
    if not found.normal:
        says = "the classes decide: nothing limits the false alarms"
        return Step("normal", "missing", says, None, command, required=True)
    fitting = [one for one in found.normal if one.model["sha256"] == bundle.sha256()]
    if not fitting:
        return Step("normal", "stale", "good surface is known for another model", None, command, required=True)
    part = fitting[0]
    allowed = (
        f"{part.false_alarms_per_hour:g} false alarms an hour"
        if part.false_alarms_per_hour is not None
        else f"a share of {part.false_alarm_rate:g} of the tiles"
    )
    says = f"{allowed} allowed, from {part.tiles:,} tiles"
    if part.made.overruled:
        says += "; objections were overruled"
    if found.roi is not None and found.roi.made.time > part.made.time:
        says += "; learned before the region or its tiles were changed"
    return Step("normal", "done", says, part.made.time, required=True)


def _classes(camera: config.Camera, tiled: config.Camera, found: Calibration, bundle: Bundle) -> Step:
    command = _command("classes", camera) + " --labels"
    if not found.classes:
        says = f"the model's own classes name the defects: {', '.join(bundle.card.classes)}"
        return Step("classes", "optional", says, None, command)
    newest = found.classes[0]
    ours = [one for one in found.classes if one.model["sha256"] == bundle.sha256()]
    fitting = [one for one in ours if one.tile_px == tiled.tile_px]
    if not fitting:
        other = f"tiles of {ours[0].tile_px} px" if ours else "another model"
        return Step("classes", "stale", f"classes were taught to {other}", newest.made.time, command)
    part = fitting[0]
    says = f"{', '.join(part.classes)}; mean recall {part.macro:.0%} of pictures that were left out"
    return Step("classes", "done", says, part.made.time)


def _thresholds(camera: config.Camera, tiled: config.Camera, found: Calibration, bundle: Bundle) -> Step:
    command = _command("thresholds", camera) + " --labels"
    if camera.calibrated_thresholds is not None:
        return Step("thresholds", "done", "the configuration gives them")
    if found.thresholds is None:
        says = f"one threshold for all classes, {camera.decision.confidence:g}"
        return Step("thresholds", "missing", says, None, command)
    levels = found.thresholds.calibrated_thresholds
    if levels.bundle not in (None, bundle.digest):
        return Step("thresholds", "stale", "they are for another model", found.thresholds.made.time, command)
    if levels.tile_px not in (None, tiled.tile_px):
        says = f"they are for tiles of {levels.tile_px} px"
        return Step("thresholds", "stale", says, found.thresholds.made.time, command)
    return Step("thresholds", "done", f"{len(levels.classes)} classes", found.thresholds.made.time)


_LATENCY: Final = "defectd calibrate latency"


def _latency(settings: config.Config, bundle: Bundle) -> Step:
    try:
        tuned = tuning.load(settings.state.tuning)
    except ConfigError as error:
        return Step("latency", "stale", str(error.problems[0]), None, _LATENCY)
    if tuned is None:
        return Step("latency", "missing", "the network runs untuned on this machine", None, _LATENCY)
    other = tuning.differences(tuned.place, tuning.here(bundle.digest))
    if other:
        return Step("latency", "stale", f"measured {'; '.join(other)}", tuned.made.time, _LATENCY)
    best = tuned.chosen
    says = f"{best.precision}, {best.threads} threads, batch {best.batch}: p99 {best.p99_ms:.1f} ms"
    return Step("latency", "done", says, tuned.made.time)
