"""calibrate roi: the region of the strip."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from edge.cli.calibrate.session import Output, Run, Shape, frames_options, output_options
from edge.cli.exit_codes import exits_with_reason
from edge.cli.numeric_threads import one_thread_each
from edge.cli.options import Number, config_option

MARGIN_PX: Final = 4
WANDER_PX: Final = 20.0


@click.command(short_help="Find the region of the strip by its edges, or take a shape.")
@config_option
@output_options
@frames_options
@click.option(
    "--shape", type=Shape(), help="The region, without a search: x,y,w,h or 'x,y x,y x,y ...', px of the frame."
)
@click.option("--exclude", type=Shape(), multiple=True, help="A zone that is not inspected; repeatable.")
@click.option(
    "--margin-px", type=click.IntRange(0, 1000), default=MARGIN_PX, show_default=True, help="Distance from each edge."
)
@click.option(
    "--wander-px", type=Number(0, 1000), default=WANDER_PX, show_default=True, help="Largest wander for a fixed region."
)
@click.option(
    "--keep-region", is_flag=True, help="Keep the calibrated region: change only its zones or the size of its tiles."
)
@click.option("--no-exclude", is_flag=True, help="With --keep-region: without its zones.")
@click.option(
    "--tile-px",
    type=click.IntRange(16, 8192),
    help="Side of a tile in the frame, where the configuration has no other than 200.",
)
@click.option("--track", is_flag=True, help="The strip wanders: follow its edges in each frame.")
@exits_with_reason
def roi(
    config_path: Path,
    camera: str | None,
    sources: tuple[str, ...],
    frames: int,
    output: Output,
    shape: Any,
    exclude: tuple[Any, ...],
    margin_px: int,
    wander_px: float,
    keep_region: bool,
    no_exclude: bool,
    tile_px: int | None,
    track: bool,
) -> None:
    """Find the region of the strip by its edges against dark background, or take a shape.

    \b
    Examples:
      defectd calibrate roi --camera top --source recorded/
      defectd calibrate roi --camera top --exclude 700,0,90,256
      defectd calibrate roi --camera top --track
      defectd calibrate roi --camera top --keep-region --tile-px 160
    """
    one_thread_each()
    if sum((track, shape is not None, keep_region)) > 1:
        raise click.UsageError(
            "--shape is a fixed region, --keep-region the calibrated one, and --track follows the edges in each frame: "
            "give one of them"
        )
    run = Run(config_path, camera, "roi", output)
    find_region(
        run,
        sources,
        frames,
        shape=shape,
        exclude=exclude,
        margin_px=margin_px,
        wander_px=wander_px,
        keep_region=keep_region,
        no_exclude=no_exclude,
        tile_px=tile_px,
        track=track,
    )


def find_region(
    run: Run,
    sources: tuple[str, ...],
    frames: int,
    *,
    shape: Any = None,
    exclude: tuple[Any, ...] = (),
    margin_px: int = MARGIN_PX,
    wander_px: float = WANDER_PX,
    keep_region: bool = False,
    no_exclude: bool = False,
    tile_px: int | None = None,
    track: bool = False,
    shows_tiles: bool = False,
) -> Any:
    """Find the region, or take the given one, and keep it.

    shows_tiles: also draw the tiles beside those of the training.  Returns its part.  Raises CalibrationError.
    """
    from edge.calibration import roi as calibration
    from edge.calibration import tile_sheet
    from edge.config import calibration as files

    if tile_px is not None and not files.has_open_tile(run.camera):
        key = "tile_px" if run.camera.tile_mm is None else "tile_mm"
        raise click.UsageError(f"the configuration has its own {key}, which overrides --tile-px: remove it there")
    known = files.load(run.path).roi
    is_searched = shape is None and not keep_region
    footage = run.footage(sources, frames, min_frames=calibration.MIN_FRAMES if is_searched else 1)
    edges: dict[str, dict[str, Any]] = {}
    region, followed = shape, None
    if keep_region and known is not None:
        region, edges, followed = known.roi, known.edges, known.track
        exclude = exclude or (() if no_exclude else known.exclude)
    if is_searched:
        with run.progress(len(calibration.SIDES) * len(footage.frames), "edges") as advance:
            strip = calibration.find(
                footage.frames, margin_px=margin_px, max_wander_px=wander_px, track=track, on_frame=advance
            )
        region, edges, followed = strip.roi, {edge.side: edge.as_json() for edge in strip.edges}, strip.track
    side_px = tile_px or (None if known is None else known.tile_px)
    tiled = files.tiled(run.camera, run.path)
    if side_px is not None and files.has_open_tile(run.camera):
        tiled = tiled.model_copy(update={"tile_px": side_px})
    input_px = run.bundle().card.input_px
    boxes = calibration.tile_boxes(tiled, footage.frames[0], region, exclude, input_px)
    part = files.RegionPart(
        roi=region, exclude=exclude, edges=edges, track=followed, tile_px=side_px, made=run.made(footage)
    )
    pictures = {"roi": calibration.overlay(footage.frames[-1], region, exclude, followed)}
    sizes = calibration.tile_sizes(tiled, footage.frames[0], region, exclude, input_px) if run.as_json else []
    if run.has_plates or shows_tiles:
        laid = [(size.tile_px, size.boxes) for size in sizes if size.boxes] or [(tiled.tile_px, tuple(boxes))]
        pictures["tiles"] = tile_sheet.sheet(footage.frames[-1], laid, input_px)
    run.keep({"roi": part}, pictures=pictures)
    for side, edge in edges.items() if is_searched else ():
        run.say(f"{side} edge at {edge['start_px']} to {edge['end_px']} px, seen in {edge['frames']} frames")
    if followed is not None:
        run.say("the region follows these edges in each frame; where an edge is lost, roi is used")
    run.say(f"{len(boxes)} tiles of {tiled.tile_px} px")
    tracked = None if followed is None else followed.model_dump()
    run.done(
        {
            "roi": region,
            "exclude": exclude,
            "edges": edges,
            "track": tracked,
            "tile_px": tiled.tile_px,
            "frame_px": footage.size_px,
            "tiles": boxes if run.as_json else [],
            "tile_sizes": [size.as_json() for size in sizes],
        }
    )
    return part
