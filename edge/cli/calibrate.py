"""calibrate: from frames of a camera to what the daemon uses of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from edge.cli.options import config_option, json_option
from edge.cli.refusal import refusals_told
from edge.cli.terminal import progress, tell
from edge.cli.threads import one_thread_each

if TYPE_CHECKING:
    from edge import calibration, config

P = ParamSpec("P")
R = TypeVar("R")


@click.group()
def calibrate() -> None:
    r"""Fit the daemon to a camera: each writes state_dir/calibration/CAMERA.yaml and a picture beside it.

    Frames come from the camera, or from recordings with --source. What stands in the configuration goes before what
    was calibrated. A running daemon takes it over with `defectd reload`.
    """


def frames_options(command: Callable[P, R]) -> Callable[P, R]:
    """What all calibrations take."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing."),
        click.option("--frames", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At most."),
        click.option(
            "--source", "sources", multiple=True, metavar="PATH", help="Recording instead of the camera; repeatable."
        ),
        click.option("--camera", help="Which camera of the configuration; the first when not given."),
    ):
        command = option(command)
    return command


class Shape(click.ParamType[Any]):
    """`x,y,w,h`, or `x,y x,y x,y ...`."""

    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        words = str(value).split()
        corners = [tuple(int(n) for n in word.split(",")) for word in words if _NUMBERS.match(word)]
        lengths = {len(corner) for corner in corners}
        if len(corners) != len(words) or ((len(corners), lengths) != (1, {4}) and (len(corners) < 3 or lengths != {2})):
            self.fail(f"{value!r}: write x,y,w,h for a rectangle, or at least three corners 'x,y x,y x,y'", param, ctx)
        return corners[0] if lengths == {4} else tuple(corners)


_NUMBERS = re.compile(r"\d{1,5}(,\d{1,5})+$")


@calibrate.command()
@config_option
@json_option
@frames_options
@click.option("--shape", type=Shape(), help="The region by hand: x,y,w,h or 'x,y x,y x,y ...', px of the frame.")
@click.option("--exclude", type=Shape(), multiple=True, help="A zone that is not inspected; repeatable.")
@click.option("--margin-px", type=click.IntRange(0, 1000), default=4, show_default=True, help="Kept off each edge.")
@click.option(
    "--wander-px", type=click.FloatRange(0, 1000), default=20.0, show_default=True, help="Most that is fixed."
)
@refusals_told
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
) -> None:
    r"""Where the strip is: its edges against the dark beside it, or a shape by hand.

    \b
    defectd calibrate roi --camera top --source recorded/
    defectd calibrate roi --camera top --exclude 700,0,90,256
    """
    one_thread_each()
    from edge.calibrate import roi as room
    from edge.calibration import Region

    run = _Run(config_path, camera, as_json=as_json, dry_run=dry_run)
    footage = run.footage(sources, frames)
    edges: dict[str, dict[str, Any]] = {}
    region = shape
    if region is None:
        strip = room.find(footage.frames, margin_px=margin_px, most_wander_px=wander_px)
        region, edges = strip.roi, {edge.side: edge.as_json() for edge in strip.edges}
    room.check(run.camera, footage.frames[0], region, exclude)
    part = Region(roi=region, exclude=exclude, edges=edges, made=run.made(footage))
    run.keep("roi", part, room.overlay(footage.frames[-1], region, exclude))
    for side, edge in edges.items():
        run.say(f"{side} edge at {edge['start_px']} to {edge['end_px']} px, seen in {edge['frames']} frames")
    run.done({"roi": region, "exclude": exclude, "edges": edges})


class Squares(click.ParamType[tuple[int, int]]):
    """Columns x rows."""

    name = "COLUMNSxROWS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        named = re.fullmatch(r"(\d{1,2})x(\d{1,2})", str(value))
        columns, rows = (int(named[1]), int(named[2])) if named else (0, 0)
        if not (3 <= columns <= 30 and 3 <= rows <= 30 and columns * rows <= 400):
            self.fail(f"{value!r}: write for example 10x7: 3 to 30 squares each way, at most 400", param, ctx)
        return columns, rows


@calibrate.command()
@config_option
@json_option
@frames_options
@click.option("--squares", type=Squares(), default="10x7", show_default=True, help="Of the board.")
@click.option("--square-mm", type=click.FloatRange(1, 500), default=20.0, show_default=True, help="As measured on it.")
@click.option("--print", "board_path", type=click.Path(path_type=Path), help="Only write the board: .pdf or .png.")
@click.option("--length-mm", type=click.FloatRange(0, 100_000, min_open=True), help="Without a board: a known length,")
@click.option("--points", type=Shape(), help="and its ends in the frame: x,y,x,y px.")
@refusals_told
def scale(
    config_path: Path,
    as_json: bool,
    camera: str | None,
    sources: tuple[str, ...],
    frames: int,
    dry_run: bool,
    squares: tuple[int, int],
    square_mm: float,
    board_path: Path | None,
    length_mm: float | None,
    points: Any,
) -> None:
    r"""Millimetres per pixel and the lens, from a printed board, or from one known length.

    Print the board, measure a square, and glue it onto something flat. Show it at five angles or more, and lay it onto
    the strip's plane for the last frame: that one says where the plane is, the others what the lens does.

    \b
    defectd calibrate scale --print board.pdf
    defectd calibrate scale --camera top --source board/*.png --square-mm 19.9
    defectd calibrate scale --camera top --length-mm 1250 --points 152,130,1490,131
    """
    one_thread_each()
    from edge import config
    from edge.calibrate import scale as room
    from edge.calibration import Metric
    from edge.errors import CalibrationError

    board = room.Board(*squares, square_mm)
    if board_path is not None:
        room.print_board(board, board_path)
        tell(f"{board_path}: print it at 100 %, then measure a square: {square_mm:g} mm")
        return
    if (length_mm is None) != (points is None) or (points is not None and isinstance(points[0], tuple)):
        raise click.UsageError("--length-mm and --points x,y,x,y go together")
    run = _Run(config_path, camera, as_json=as_json, dry_run=dry_run)
    footage = run.footage(sources, frames)
    rms_px, views = None, 0
    if length_mm is not None:
        ruler = room.known_length(length_mm, points[:2], points[2:])
    else:
        measured = room.measure(footage.frames, board)
        ruler, rms_px, views = measured.ruler, round(measured.rms_px, 4), measured.views
        run.say(f"{measured.corners} corners in the last frame, {rms_px} px off; {views} frames show the board")
        run.say("the lens is corrected" if ruler.lens is not None else "no lens: give five frames at different angles")
    if not ruler.mm_per_px > 0:
        raise CalibrationError("the board gives no scale; is it seen from the front?")
    lens, plane = (None if a is None else tuple(a.ravel().tolist()) for a in (ruler.lens, ruler.plane))
    found = config.Scale(mm_per_px=ruler.mm_per_px, lens=lens, plane=plane)
    part = Metric(scale=found, rms_px=rms_px, views=views, made=run.made(footage))
    run.keep("scale", part, room.overlay(footage.frames[-1], board, ruler))
    run.done({"mm_per_px": round(ruler.mm_per_px, 6), "rms_px": rms_px, "views": views, "lens": lens})


@calibrate.command()
@config_option
@json_option
@frames_options
@refusals_told
def flatfield(
    config_path: Path, as_json: bool, camera: str | None, sources: tuple[str, ...], frames: int, dry_run: bool
) -> None:
    r"""Even light: a gain per pixel from frames of good, moving surface; refused where it would not help.

    \b
    defectd calibrate flatfield --camera top --source good/ --frames 200
    """
    one_thread_each()
    from edge.calibrate import flatfield as room
    from edge.calibrate.roi import outline
    from edge.calibration import Even, applied, load
    from edge.offline import chosen

    run = _Run(config_path, camera, as_json=as_json, dry_run=dry_run)
    before = load(run.path).flatfield
    footage = run.footage(sources, frames)
    region = outline(chosen(applied(run.settings), camera, str(config_path)).roi, footage.frames[0])
    (left, top), (right, bottom) = region.min(axis=0).tolist(), region.max(axis=0).tolist()
    light = room.measure(footage.frames, (left, top, right - left + 1, bottom - top + 1))
    name = run.keep_beside("flatfield", room.coded(light.gain))
    part = Even(file=name, before=round(light.before, 4), after=round(light.after, 4), made=run.made(footage))
    run.keep("flatfield", part, room.overlay(footage.frames[-1], light.gain))
    if before is not None and before.file != name and not dry_run:
        run.path.with_name(before.file).unlink(missing_ok=True)
    run.say(f"the light differed by {light.before:.1%} from side to side, with the gain by {light.after:.1%}")
    run.done({"gain": [round(float(light.gain.min()), 3), round(float(light.gain.max()), 3)], "file": name})


class _Run:
    """What one calibration reads, says and writes."""

    def __init__(self, config_path: Path, camera: str | None, *, as_json: bool, dry_run: bool) -> None:
        from edge import calibration, config
        from edge.offline import chosen

        self.settings: config.Config = config.load(config_path)
        self.camera = chosen(self.settings, camera, str(config_path))
        self.path = calibration.path_of(self.settings.state_dir, self.camera.name)
        self._as_json = as_json
        self._dry_run = dry_run
        self._written: list[str] = []

    def footage(self, sources: tuple[str, ...], most: int, least: int = 1) -> Any:
        from edge.calibrate.footage import gather
        from edge.clock import SystemClock

        with progress(most, "frames", hidden=self._as_json) as advance:
            return gather(self.camera, sources, SystemClock(), most=most, least=least, on_frame=advance)

    def made(self, footage: Any) -> calibration.Made:
        from edge import __version__, calibration
        from edge.clock import SystemClock, stamp

        now = stamp(SystemClock().wall_ns())
        frames, size_px = len(footage.frames), footage.size_px
        return calibration.Made(time=now, version=__version__, source=footage.source, frames=frames, frame_px=size_px)

    def keep(self, name: str, part: Any, picture: Any) -> None:
        """The part into the file, its picture beside it: the picture first, so that a file never promises one."""
        from edge import calibration
        from edge.picture import write

        if self._dry_run:
            return
        beside = self.path.with_name(f"{self.camera.name}.{name}.png")
        write(beside, picture)
        calibration.save(self.path, **{name: part})
        self._written = [str(self.path), str(beside)]

    def keep_beside(self, name: str, values: Any) -> str:
        """Data of a part, as a PNG named by its content: a changed calibration is a changed configuration."""
        import hashlib

        from edge.picture import write

        file = f"{self.camera.name}.{name}-{hashlib.sha256(values.tobytes()).hexdigest()[:12]}.png"
        if not self._dry_run:
            write(self.path.with_name(file), values)
        return file

    def say(self, sentence: str) -> None:
        if not self._as_json:
            click.echo(sentence)

    def done(self, found: dict[str, Any]) -> None:
        if self._as_json:
            click.echo(json.dumps({"camera": self.camera.name, **found, "written": self._written}))
            return
        for name, value in found.items():
            if value and name != "edges":
                click.echo(f"{name}: {json.dumps(value)}")
        if self._written:
            tell(f"written: {', '.join(self._written)}; `defectd reload` takes it over")
            if self.camera.roi is not None and "roi" in found:
                tell("the configuration has a roi of its own, which goes before this one: remove it there")
        else:
            tell("dry run: nothing was written")
