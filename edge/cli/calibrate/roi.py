"""calibrate roi: the region of the strip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge.cli.calibrate.session import Run, Shape, frames_options
from edge.cli.exit_codes import exits_with_reason
from edge.cli.numeric_threads import one_thread_each
from edge.cli.options import Number, config_option, json_option


@click.command()
@config_option
@json_option
@frames_options
@click.option(
    "--shape", type=Shape(), help="The region, without a search: x,y,w,h or 'x,y x,y x,y ...', px of the frame."
)
@click.option("--exclude", type=Shape(), multiple=True, help="A zone that is not inspected; repeatable.")
@click.option(
    "--margin-px", type=click.IntRange(0, 1000), default=4, show_default=True, help="Distance from each edge."
)
@click.option(
    "--wander-px", type=Number(0, 1000), default=20.0, show_default=True, help="Largest wander for a fixed region."
)
@click.option("--track", is_flag=True, help="The strip wanders: follow its edges in each frame.")
@exits_with_reason
def roi(
    config_path: Path,
    as_json: bool,
    camera: str | None,
    sources: tuple[str, ...],
    frames: int,
    dry_run: bool,
    shape: Any,
    exclude: tuple[Any, ...],
    margin_px: int,
    wander_px: float,
    track: bool,
) -> None:
    """Find the region of the strip by its edges against dark background, or take a shape.

    \b
    defectd calibrate roi --camera top --source recorded/
    defectd calibrate roi --camera top --exclude 700,0,90,256
    defectd calibrate roi --camera top --track
    """
    one_thread_each()
    if track and shape is not None:
        raise click.UsageError(
            "--shape is a fixed region, and --track follows the edges in each frame: give one of them"
        )
    from edge.calibration import roi as calibration
    from edge.config.calibration import RegionPart, tiled

    run = Run(config_path, camera, as_json=as_json, dry_run=dry_run)
    footage = run.footage(sources, frames, min_frames=1 if shape is not None else calibration.MIN_FRAMES)
    edges: dict[str, dict[str, Any]] = {}
    region, followed = shape, None
    if region is None:
        with run.progress(len(calibration.SIDES) * len(footage.frames), "edges") as advance:
            strip = calibration.find(
                footage.frames, margin_px=margin_px, max_wander_px=wander_px, track=track, on_frame=advance
            )
        region, edges, followed = strip.roi, {edge.side: edge.as_json() for edge in strip.edges}, strip.track
    calibration.count_tiles(tiled(run.camera, run.path), footage.frames[0], region, exclude)
    part = RegionPart(roi=region, exclude=exclude, edges=edges, track=followed, made=run.made(footage))
    run.keep({"roi": part}, pictures={"roi": calibration.overlay(footage.frames[-1], region, exclude, followed)})
    for side, edge in edges.items():
        run.say(f"{side} edge at {edge['start_px']} to {edge['end_px']} px, seen in {edge['frames']} frames")
    if followed is not None:
        run.say("the region follows these edges in each frame; where an edge is lost, roi is used")
    tracked = None if followed is None else followed.model_dump()
    run.done({"roi": region, "exclude": exclude, "edges": edges, "track": tracked})
