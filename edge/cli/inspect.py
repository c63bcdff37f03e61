"""inspect: verdicts without a daemon."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli.exit_codes import EXIT_FAILED, exits_with_reason
from edge.cli.options import json_option
from edge.cli.progress import echo, note, progress

if TYPE_CHECKING:
    from edge.pipeline.offline import Offline


@click.command(short_help="Verdicts for images, folders or videos.")
@click.argument("paths", nargs=-1, required=True)
@json_option
@click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="Inspect as the daemon would with this configuration: its model, calibrations and thresholds.",
)
@click.option("--camera", help="Which camera of the configuration; the first when not given.")
@click.option(
    "--bundle", "bundle_path", help="Model bundle  [default: the model that the daemon would use; builtin without -c]"
)
@click.option("--tile-px", type=click.IntRange(16, 8192), help="Side of a tile in the picture  [default: 200]")
@click.option("--pictures", type=click.Path(file_okay=False, path_type=Path), help="Folder for drawn copies.")
@exits_with_reason
def inspect(
    paths: tuple[str, ...],
    as_json: bool,
    config_path: Path | None,
    camera: str | None,
    bundle_path: str | None,
    tile_px: int | None,
    pictures: Path | None,
) -> None:
    """Verdicts for images, folders, patterns or videos; no broker, no daemon.

    With -c the frames are inspected as the daemon would inspect them: with the installed model, the camera's
    calibrations, and the thresholds that commands have set. --bundle tries another model: calibrations that were made
    with a different one do not apply then.

    \b
    Examples:
      defectd inspect photo.png
      defectd inspect --json frames/ clip.mp4 | jq .state
      defectd inspect -c config.yaml --camera top --bundle candidate.zip frames/
    """
    from edge.pipeline.offline import count_files

    offline = _offline(config_path, camera, bundle_path, tile_px)
    failed, last = False, ""
    with progress(count_files(paths), "inspecting", hidden=sys.stdout.isatty()) as advance:
        for line in offline.verdicts(paths, pictures):
            failed = failed or "error" in line
            if as_json:
                click.echo(json.dumps(line))
            else:
                (note if "error" in line else echo)(_sentence(line))
            if line["source"] != last:
                last = line["source"]
                advance()
    sys.exit(EXIT_FAILED if failed else 0)


def _offline(config_path: Path | None, camera: str | None, bundle_path: str | None, tile_px: int | None) -> Offline:
    """An inspector as the options name it.  Raises BundleError, ConfigError."""
    from pydantic import SecretStr

    from edge import config
    from edge.control.effective_config import effective_config, load_model, without_foreign_calibrations
    from edge.host.clock import SystemClock
    from edge.model import bundle
    from edge.model.variant import choose
    from edge.pipeline.offline import Offline

    clock = SystemClock()
    if config_path is None:
        one = config.Camera(name="recording", source=SecretStr("recording"), mode="parts")
        classifier = choose(bundle.load(bundle_path or "builtin"), config.Model(), clock).classifier
    else:
        file = config.load(config_path)
        model = None if bundle_path is None else load_model(file, bundle.load(bundle_path), clock)
        effective = effective_config(file, clock, model=model)
        if effective.passed_over:
            note(f"the installed model is not used: {effective.passed_over}")
        classifier = effective.model.classifier
        one = config.find_camera(effective.settings, camera, str(config_path))
        if bundle_path is not None:
            one, left_out = without_foreign_calibrations(one, classifier)
            for sentence in left_out:
                note(sentence)
    if tile_px is not None:
        one = one.model_copy(update={"tile_px": tile_px})
    return Offline(one, classifier, clock)


def _sentence(line: dict[str, Any]) -> str:
    if "error" in line:
        return f"{line['source']}: {line['error']}"
    regions = ", ".join(f"{r['class']} {r['confidence']:.2f} at {r['box_px']}" for r in line["regions"])
    reason = f" ({line['reason']})" if line.get("reason") else ""
    anomaly = f", {line['anomaly']:.2f} of the threshold" if "anomaly" in line else ""
    return f"{line['source']} [{line['frame']}]: {line['state']}{reason}{anomaly}{': ' + regions if regions else ''}"
