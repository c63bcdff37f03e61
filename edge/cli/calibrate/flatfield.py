"""calibrate flatfield: correct uneven light."""

from __future__ import annotations

from pathlib import Path

import click

from edge.cli.calibrate.session import Output, Run, frames_options, output_options
from edge.cli.exit_codes import exits_with_reason
from edge.cli.numeric_threads import one_thread_each
from edge.cli.options import config_option


@click.command(short_help="Correct uneven light, from good, moving surface.")
@config_option
@output_options
@frames_options
@exits_with_reason
def flatfield(config_path: Path, camera: str | None, sources: tuple[str, ...], frames: int, output: Output) -> None:
    """Correct uneven light with a gain per pixel, from frames of good, moving surface. Refused where it would not help.

    \b
    Examples:
      defectd calibrate flatfield --camera top --source good/ --frames 200
    """
    one_thread_each()
    even_out(Run(config_path, camera, "flatfield", output), sources, frames)


def even_out(run: Run, sources: tuple[str, ...], frames: int) -> None:
    """Measure the light and keep its gain.  Raises CalibrationError."""
    from edge.calibration import flatfield as calibration
    from edge.calibration.roi import outline
    from edge.config.calibration import FlatfieldPart, misfits
    from edge.errors import CalibrationError
    from edge.vision.drawing import png

    footage = run.footage(sources, frames)
    calibrated = run.calibrated_camera()
    for misfit in misfits(calibrated, footage.size_px):
        if misfit.part == "roi":  # the light would be measured on the background
            raise CalibrationError(str(misfit))
    region = outline(calibrated.roi, footage.frames[0])
    (left, top), (right, bottom) = region.min(axis=0).tolist(), region.max(axis=0).tolist()
    light = calibration.measure(footage.frames, (left, top, right - left + 1, bottom - top + 1), region)
    content = png(calibration.coded(light.gain))
    name = run.named("flatfield", content, "png")
    part = FlatfieldPart(file=name, before=round(light.before, 4), after=round(light.after, 4), made=run.made(footage))
    picture = calibration.overlay(footage.frames[-1], light)
    run.keep({"flatfield": part}, pictures={"flatfield": picture}, files={name: content})
    run.say(f"brightness varied by {light.before:.1%} across the frame, with the gain by {light.after:.1%}")
    run.done({"gain": [round(float(light.gain.min()), 3), round(float(light.gain.max()), 3)], "file": name})
