"""Calibrations: whether their files can be read, and hold for the frames that the cameras give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edge import config
from edge.config import calibration
from edge.control.effective_config import with_calibrations
from edge.control.unix_socket import ask
from edge.errors import CommandError, ConfigError
from edge.monitoring.doctor.finding import Finding

ASK_S = 3.0


def findings(settings: config.Config) -> Iterator[Finding]:
    """Of each camera with a calibration: its parts, and what frames they were made with."""
    for camera in settings.active_cameras:
        about = f"calibration of {camera.name}"
        try:
            fitted = with_calibrations(settings.model_copy(update={"cameras": (camera,)})).cameras[0]
        except ConfigError as error:
            yield Finding(about, "bad", str(error.problems[0]), "Until then the daemon does not start")
            continue
        sizes = calibration.made_px(fitted)
        if not sizes:
            continue
        says = ", ".join(f"{part} for {w}x{h} px" for part, (w, h) in sizes.items())
        if len(set(sizes.values())) > 1:
            remedy = "Only one can be right: calibrate again what is not for the size that the camera gives"
            yield Finding(about, "warning", f"frames of several sizes: {says}", remedy)
        else:
            yield Finding(about, "good", says)


def held_against(settings: config.Config, given_px: Mapping[str, tuple[int, int]]) -> Iterator[Finding]:
    """What does not hold for the frames that cameras give.  given_px: width and height by camera, as just opened."""
    try:
        cameras = with_calibrations(settings).active_cameras
    except ConfigError:
        return  # told by `findings`
    for camera in cameras:
        if camera.name in given_px:
            for misfit in calibration.misfits(camera, given_px[camera.name]):
                yield _refused(camera.name, str(misfit), misfit.remedy, bad=misfit.blocks)


def of_daemon(settings: config.Config) -> Iterator[Finding]:
    """What a running daemon refuses, by its own word."""
    try:
        told = ask(settings.state_dir, "state", ASK_S)
    except (CommandError, OSError) as error:
        yield Finding("calibrations", "warning", f"the daemon was not asked: {error}", "Look at the state topics")
        return
    for name, state in ((told or {}).get("cameras") or {}).items():
        for part in (state.get("calibration") or {}).get("refused", ()):
            made, frame = ("x".join(map(str, part[key])) for key in ("made_px", "frame_px"))
            says = f"{part['part']} is for frames of {made} px, the camera gives {frame}: {part['effect']}"
            yield _refused(name, says, part["remedy"], bad="bad_image" in part["effect"])


def _refused(camera: str, says: str, remedy: str, *, bad: bool) -> Finding:
    return Finding(f"calibration of {camera}", "bad" if bad else "warning", says.removesuffix(f". {remedy}"), remedy)
