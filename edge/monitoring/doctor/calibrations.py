"""Calibrations: whether their files can be read, and were made for frames of the cameras' present size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edge import config
from edge.config import calibration
from edge.control.effective_config import effective_config, with_calibrations
from edge.errors import ConfigError, DefectdError
from edge.host.clock import SystemClock
from edge.monitoring.doctor.finding import Finding
from edge.vision import taught_classes

REMEDY = "Run `defectd calibrate classes` again for this model, or take it back with --undo"


def findings(settings: config.Config) -> Iterator[Finding]:
    """One for each camera with a calibration: its parts, and the frame sizes that they were made with."""
    for camera in settings.active_cameras:
        about = f"calibration of {camera.name}"
        try:
            fitted = with_calibrations(settings.model_copy(update={"cameras": (camera,)})).cameras[0]
        except ConfigError as error:
            yield Finding(about, "fail", str(error.problems[0]), "Until then the daemon does not start")
            continue
        sizes = calibration.made_px(fitted)
        yield from _taught(settings, fitted)
        if not sizes:
            continue
        says = ", ".join(f"{part} for {w}x{h} px" for part, (w, h) in sizes.items())
        if len(set(sizes.values())) > 1:
            remedy = "Only one can be right: repeat the calibrations that are not for the camera's frame size"
            yield Finding(about, "warning", f"frames of several sizes: {says}", remedy)
        else:
            yield Finding(about, "ok", says)


def _taught(settings: config.Config, camera: config.Camera) -> Iterator[Finding]:
    """The classes that a camera was taught; whether they fit the model that decides, its log says."""
    about = f"classes of {camera.name}"
    try:
        known = taught_classes.known_of(camera)
    except ConfigError as error:
        yield Finding(about, "fail", str(error.problems[0]), "Until then the daemon does not start")
        return
    if not known:
        return
    try:
        card = effective_config(settings, SystemClock()).model.bundle.card
    except DefectdError:
        return  # the finding about the model reports it
    found = taught_classes.fitting(known, card, camera)
    if found is None:
        yield Finding(about, "warning", taught_classes.refusal(known, card, camera).partition(". Run")[0], REMEDY)
    else:
        yield Finding(about, "ok", f"taught: {', '.join(found.names)}")


def compared_with(settings: config.Config, actual_px: Mapping[str, tuple[int, int]]) -> Iterator[Finding]:
    """Calibrations that do not fit the cameras' frames.  actual_px: width and height by camera, as just opened."""
    try:
        cameras = with_calibrations(settings).active_cameras
    except ConfigError:
        return  # `findings` reports it
    for camera in cameras:
        if camera.name in actual_px:
            for misfit in calibration.misfits(camera, actual_px[camera.name]):
                yield _refused(camera.name, str(misfit), misfit.remedy, blocks=misfit.blocks)


def of_daemon(states: Mapping[str, Any]) -> Iterator[Finding]:
    """Calibrations that a running daemon refuses.  states: the state messages of its cameras, by name."""
    for name, state in states.items():
        for part in (state.get("calibration") or {}).get("refused", ()):
            made, frame = ("x".join(map(str, part[key])) for key in ("made_px", "frame_px"))
            says = f"{part['part']} is for frames of {made} px, the camera gives {frame}: {part['effect']}"
            yield _refused(name, says, part["remedy"], blocks="bad_image" in part["effect"])
        domain = state.get("domain") or {}
        if domain.get("answer") == "outside":
            distance = domain.get("distance")
            says = f"its steel is unlike that of the model's training (distance {distance}, up to 1 is usual)"
            remedy = f"Defects are `unknown` until you run `defectd calibrate classes --camera {name}`"
            yield Finding(f"surface of {name}", "warning", says, remedy)


def _refused(camera: str, says: str, remedy: str, *, blocks: bool) -> Finding:
    """blocks: frames are not inspected until it is calibrated again."""
    return Finding(
        f"calibration of {camera}", "fail" if blocks else "warning", says.removesuffix(f". {remedy}"), remedy
    )
