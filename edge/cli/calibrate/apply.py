"""calibrate apply, calibrate undo: write what a dry run showed, and take the last change back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge.cli.exit_codes import exits_with_reason
from edge.cli.options import config_option, json_option
from edge.cli.progress import note, uninterrupted


@click.command(short_help="Write what a dry run with --plates has shown.")
@config_option
@json_option
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--i-have-looked", "has_looked", is_flag=True, help="Accept what the calibration objects to.")
@exits_with_reason
def apply(config_path: Path, as_json: bool, folder: Path, has_looked: bool) -> None:
    """Write what a dry run with --plates has put into a folder, as it is there.

    Refused where the calibration has changed since the dry run. `calibrate undo` goes back.

    \b
    Examples:
      defectd calibrate flatfield --camera top --dry-run --plates look/
      defectd calibrate apply look/
    """
    from edge import config
    from edge.config import calibration_change

    settings = config.load(config_path)
    change = calibration_change.load(folder, settings.state)
    config.find_camera(settings, change.camera, str(config_path))
    with uninterrupted():
        done = calibration_change.apply(change, has_looked=has_looked)
    then = "the daemon uses it from its next start" if change.is_tuning else "`defectd reload` makes it used"
    _report(as_json, {"camera": change.camera, "kind": change.kind, **done}, change.path, then)


@click.command(short_help="Go back to the calibration before the last change.")
@config_option
@json_option
@click.option("--camera", help="Camera of the configuration [default: the first].")
@exits_with_reason
def undo(config_path: Path, as_json: bool, camera: str | None) -> None:
    """Go back to the calibration before the last change of a camera; a second time goes forward again.

    After `calibrate auto` the whole of it is taken back, with its tuning of the machine.

    \b
    Examples:
      defectd calibrate undo --camera top
    """
    from edge import config
    from edge.config import calibration_change

    settings = config.load(config_path)
    found = config.find_camera(settings, camera, str(config_path))
    path = settings.state.calibration(found.name)
    with uninterrupted():
        done = calibration_change.undo(path, settings.state.tuning)
    _report(as_json, {"camera": found.name, "kind": "undo", **done}, path, "`defectd reload` makes it used")


def _report(as_json: bool, done: dict[str, Any], path: Path, then: str) -> None:
    if as_json:
        click.echo(json.dumps({**done, "written": [str(path)]}))
    else:
        note(f"written: {path}; {then}")
