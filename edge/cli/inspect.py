"""inspect: verdicts without a daemon."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from edge.cli.exit_codes import EXIT_FAILED, refusals_told
from edge.cli.options import json_option
from edge.cli.progress import progress


@click.command()
@click.argument("paths", nargs=-1, required=True)
@json_option
@click.option("-c", "--config", "config_path", type=click.Path(path_type=Path), help="Take a camera's settings.")
@click.option("--camera", help="Which camera of the configuration; the first when not given.")
@click.option("--bundle", "bundle_path", default="builtin", show_default=True, help="The model bundle.")
@click.option("--tile-px", type=click.IntRange(16, 8192), help="Side of a tile in the picture [default: 200].")
@click.option("--pictures", type=click.Path(file_okay=False, path_type=Path), help="Folder for drawn copies.")
@refusals_told
def inspect(
    paths: tuple[str, ...],
    as_json: bool,
    config_path: Path | None,
    camera: str | None,
    bundle_path: str,
    tile_px: int | None,
    pictures: Path | None,
) -> None:
    """Verdicts for images, folders, patterns or videos; no broker, no daemon.

    \b
    defectd inspect photo.png
    defectd inspect --json frames/ clip.mp4 | jq .state
    """
    from edge.pipeline.offline import Offline, count_files, settings_of

    offline = Offline(settings_of(config_path, camera, bundle_path, tile_px))
    failed, last = False, ""
    with progress(count_files(paths), "inspecting", hidden=sys.stdout.isatty()) as advance:
        for line in offline.verdicts(paths, pictures):
            failed = failed or "error" in line
            click.echo(json.dumps(line) if as_json else _sentence(line), err="error" in line and not as_json)
            if line["source"] != last:
                last = line["source"]
                advance()
    sys.exit(EXIT_FAILED if failed else 0)


def _sentence(line: dict[str, Any]) -> str:
    if "error" in line:
        return f"{line['source']}: {line['error']}"
    what = ", ".join(f"{r['class']} {r['confidence']:.2f} at {r['box_px']}" for r in line["regions"])
    why = f" ({line['reason']})" if line.get("reason") else ""
    strange = f", {line['anomaly']:.2f} of the threshold" if "anomaly" in line else ""
    return f"{line['source']} [{line['frame']}]: {line['state']}{why}{strange}{': ' + what if what else ''}"
