"""calibrate show: which calibrations a camera has, and what is missing until it is ready."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from edge.cli.calibrate.session import Output, Run
from edge.cli.exit_codes import exits_with_reason
from edge.cli.options import config_option, json_option
from edge.cli.progress import echo

if TYPE_CHECKING:
    from edge.calibration.readiness import Step

INDENT: Final = 22
"""Columns of the name and the state of a step."""
NARROWEST: Final = 40
MARKS: Final = {"done": "ok", "missing": "optional", "stale": "not used", "optional": "optional"}
"""Words of the states; what is required is `missing`."""


@click.command(short_help="Show what is calibrated, and what is missing.")
@config_option
@json_option
@click.option("--camera", help="Camera of the configuration [default: the first].")
@exits_with_reason
def show(config_path: Path, as_json: bool, camera: str | None) -> None:
    """Show the calibrations of a camera, since when they are used, and what is missing until the camera is ready.

    \b
    Examples:
      defectd calibrate show --camera top
    """
    from edge.calibration.readiness import is_ready, steps_of

    run = Run(config_path, camera, "roi", Output(as_json=as_json, dry_run=True))
    steps = steps_of(run.camera, run.settings, run.bundle())
    if as_json:
        click.echo(json.dumps(_facts(run) | {"ready": is_ready(steps), "steps": [step.as_json() for step in steps]}))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    for step in steps:
        for line in _lines(step, max(width, INDENT + NARROWEST)):
            echo(line)
    missing = [step.name for step in steps if step.required and step.state != "done"]
    echo(f"camera {run.camera.name} is {'ready' if is_ready(steps) else 'not ready: ' + ', '.join(missing)}")


def _lines(step: Step, width: int) -> Iterator[str]:
    """A step on lines of at most this width; its remedy, which is there to be copied, is on one of its own."""
    from edge.host.clock import local_date_time, wall_ns_of

    since = f", since {local_date_time(wall_ns_of(step.since))}" if step.since else ""
    state = "missing" if step.required and step.state == "missing" else MARKS[step.state]
    first, *more = textwrap.wrap(step.says + since, width - INDENT)
    yield f"{step.name:11} {state:9} {first}"
    for line in (*more, *filter(None, [step.remedy])):
        yield f"{'':{INDENT}}{line}"


def _facts(run: Run) -> dict[str, Any]:
    from edge.config import calibration, calibration_change

    found, bundle = calibration.load(run.path), run.bundle()
    used = run.calibrated_camera()
    parts = found.model_dump(mode="json", by_alias=True, exclude={"reference": {"features"}})
    newest = {name: of_models[0] for name in ("normal", "classes") if (of_models := parts.pop(name, None))}
    return {
        "camera": run.camera.name,
        "file": run.path.name,
        "sha256": calibration_change.digest(run.path),
        "can_undo": calibration.previous(run.path).exists(),
        "parts": {name: part for name, part in parts.items() if name != "schema" and part is not None} | newest,
        "in_use": {
            "roi": used.roi,
            "exclude": used.exclude,
            "tile_px": used.tile_px,
            "tile_mm": run.camera.tile_mm,
            "overlap": used.overlap,
            "confidence": used.decision.confidence,
            "unsure": used.decision.unsure,
        },
        "configured": [
            key
            for key in ("roi", "exclude", "scale", "flatfield", "anomaly", "calibrated_thresholds")
            if getattr(run.camera, key) not in (None, [])
        ]
        + ([] if calibration.has_open_tile(run.camera) else ["tile_px"]),
        "model": {
            "name": bundle.card.name,
            "version": bundle.card.version,
            "classes": list(bundle.card.classes),
            "tile_px": bundle.card.tile_px,
            "input_px": bundle.card.input_px,
        },
    }
