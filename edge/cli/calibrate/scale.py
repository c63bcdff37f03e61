"""calibrate scale: millimetres per pixel and the lens."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli.calibrate.session import Output, Run, Shape, frames_options, output_options
from edge.cli.exit_codes import exits_with_reason
from edge.cli.numeric_threads import one_thread_each
from edge.cli.options import Number, Seconds, config_option
from edge.cli.progress import note, uninterrupted

if TYPE_CHECKING:
    from edge.calibration.scale import Board


class Squares(click.ParamType[tuple[int, int]]):
    """Columns x rows."""

    name = "COLUMNSxROWS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        named = re.fullmatch(r"(\d{1,2})x(\d{1,2})", str(value))
        columns, rows = (int(named[1]), int(named[2])) if named else (0, 0)
        if not (3 <= columns <= 30 and 3 <= rows <= 30 and columns * rows <= 400):
            self.fail(f"{value!r}: write for example 10x7: 3 to 30 squares each way, at most 400", param, ctx)
        return columns, rows


@click.command(short_help="Measure millimetres per pixel and the lens.")
@config_option
@output_options
@frames_options
@click.option("--squares", type=Squares(), default="10x7", show_default=True, help="Columns and rows of the board.")
@click.option(
    "--square-mm", type=Number(1, 500), default=20.0, show_default=True, help="Side of a square, measured on the print."
)
@click.option(
    "--every",
    "every_s",
    type=Seconds(),
    default="1s",
    show_default=True,
    help="Time from frame to frame of a live camera.",
)
@click.option(
    "--print", "board_path", type=click.Path(path_type=Path), help="Only write the board to print: .pdf or .png."
)
@click.option("--length-mm", type=Number(0, 100_000, min_open=True), help="Without a board: a known length,")
@click.option("--points", type=Shape(), help="and its ends in the frame: x,y,x,y px.")
@exits_with_reason
def scale(
    config_path: Path,
    camera: str | None,
    sources: tuple[str, ...],
    frames: int,
    output: Output,
    squares: tuple[int, int],
    square_mm: float,
    every_s: float,
    board_path: Path | None,
    length_mm: float | None,
    points: Any,
) -> None:
    """Measure millimetres per pixel and the lens, with a printed board, or millimetres per pixel with one known length.

    Print the board, measure a square, and glue the board onto something flat. Show it at five angles or more, and lay
    it onto the strip for the last frame: the last frame gives the plane, the others give the lens.

    \b
    Examples:
      defectd calibrate scale --print board.pdf
      defectd calibrate scale --camera top --source board/*.png --square-mm 19.9
      defectd calibrate scale --camera top --length-mm 1250 --points 152,130,1490,131
    """
    one_thread_each()
    from edge.calibration import scale as calibration

    board = calibration.Board(*squares, square_mm)
    if board_path is not None:
        with uninterrupted():
            calibration.print_board(board, board_path, dry_run=output.dry_run)
        if output.as_json:
            click.echo(json.dumps({"written": [] if output.dry_run else [str(board_path)]}))
        elif output.dry_run:
            note("dry run: nothing was written")
        else:
            note(f"{board_path}: print it at 100 %, then measure a square: {square_mm:g} mm")
        return
    if (length_mm is None) != (points is None) or (points is not None and isinstance(points[0], tuple)):
        raise click.UsageError("--length-mm and --points x,y,x,y go together")
    run = Run(config_path, camera, "scale", output)
    measure(run, sources, frames, board, every_s=every_s, length_mm=length_mm, points=points)


def measure(
    run: Run,
    sources: tuple[str, ...],
    frames: int,
    board: Board,
    *,
    every_s: float = 1.0,
    length_mm: float | None = None,
    points: Any = None,
) -> None:
    """Measure the scale with the board, or by a known length between two points, and keep it.

    points: x, y, x, y, px.  Raises CalibrationError.
    """
    from edge import config
    from edge.calibration import scale as calibration
    from edge.calibration.live_frames import LIVE
    from edge.camera.sources import registry
    from edge.config.calibration import ScalePart
    from edge.errors import CalibrationError

    rms_px, views, length = None, 0, None
    if length_mm is not None:
        footage = run.footage(sources, 1, surface=False)
        length = (points[:2], points[2:])
        ruler = calibration.known_length(length_mm, *length, footage.size_px)
    else:
        is_live = LIVE in sources or (not sources and registry.is_live(run.camera.source.get_secret_value()))
        if is_live:
            note(f"one frame every {every_s:g} s: show the board at five angles or more, and lay it flat for the last")
        footage = run.footage(sources, frames, every_s=every_s if is_live else 0.0, surface=False)
        with run.progress(len(footage.frames), "corners") as advance:
            measured = calibration.measure(footage.frames, board, advance)
        ruler, rms_px, views = measured.ruler, round(measured.rms_px, 4), measured.views
        run.say(f"{measured.corners} corners in the last frame, error {rms_px} px; {views} frames show the board")
        run.say(
            "the lens is corrected"
            if ruler.lens is not None
            else "no lens correction: that needs five frames at different angles"
        )
    if not ruler.mm_per_px > 0:
        raise CalibrationError("the board gives no scale; does the camera see its front?")
    lens, plane = (None if a is None else tuple(a.ravel().tolist()) for a in (ruler.lens, ruler.plane))
    found = config.Scale(mm_per_px=ruler.mm_per_px, lens=lens, plane=plane)
    part = ScalePart(scale=found, rms_px=rms_px, views=views, made=run.made(footage))
    run.keep({"scale": part}, pictures={"scale": calibration.overlay(footage.frames[-1], board, ruler, length)})
    run.done({"mm_per_px": round(ruler.mm_per_px, 6), "rms_px": rms_px, "views": views, "lens": lens})
