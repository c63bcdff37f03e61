"""calibrate auto: everything that a camera needs, in the right order, written at the end or not at all."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from edge.cli.calibrate import anomaly, flatfield, latency, roi, scale
from edge.cli.calibrate.session import Output, Run, Shape, sources_option
from edge.cli.exit_codes import EXIT_FAILED, exits_with_reason
from edge.cli.numeric_threads import one_thread_each
from edge.cli.options import Number, config_option, json_option
from edge.cli.progress import echo, note, result, uninterrupted

if TYPE_CHECKING:
    from edge.calibration.footage import Footage
    from edge.calibration.summary import StepResult
    from edge.config.calibration_change import Change

FRAMES: Final = 60
"""For region, light, scale and latency."""
MAX_FRAMES: Final = 1_000_000
SHARE_OF_TIME: Final = 20
"""Of a live camera these frames take at most this part of the time for good surface."""
LATENCY_S: Final = 30.0
LATENCY_ROUNDS: Final = 100
NICE: Final = 19
"""The daemon goes first where both compute."""
MARKS: Final = {"done": "✓", "skipped": "-", "refused": "✗"}
SHOWN: Final = 4
"""Sentences of a step on the terminal; the page has all of them."""
HEADLINES: Final = {"latency": ("best on this machine",), "normal": ("threshold", "expected with it")}
"""How the sentences start that come first, where they are not the first ones."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the options say.  tile_px: None: as it is.  latency: None: where no daemon runs."""

    sources: tuple[str, ...]
    tile_px: int | None
    minutes: float
    per_hour: float
    length_mm: float | None
    points: Any
    board: tuple[str, ...]
    square_mm: float
    squares: tuple[int, int]
    latency: bool | None
    consecutive: bool
    keep_all: bool
    has_looked: bool


@click.command(short_help="All calibrations of a camera, in one go.")
@config_option
@json_option
@click.option("--progress-json", "progress_lines", is_flag=True, help="Progress as JSON lines on stderr.")
@click.option("--camera", help="Camera of the configuration [default: the first].")
@sources_option
@click.option(
    "--minutes", type=Number(0.05, 600), default=10.0, show_default=True, help="Good, moving product to look at."
)
@click.option(
    "--false-alarms-per-hour",
    "per_hour",
    type=Number(1e-6, 100_000),
    default=1.0,
    show_default=True,
    help="Allowed false alarms of this camera.",
)
@click.option("--tile-px", type=click.IntRange(16, 8192), help="Side of a tile in the frame.  [default: that in use]")
@click.option("--length-mm", type=Number(0, 100_000, min_open=True), help="A known length: the width of the strip,")
@click.option("--points", type=Shape(), help="or that between two points of the frame: x,y,x,y px.")
@click.option("--board", multiple=True, metavar="PATH", help="Instead: pictures of the printed board; repeatable.")
@click.option(
    "--squares", type=scale.Squares(), default="10x7", show_default=True, help="Columns and rows of the board."
)
@click.option(
    "--square-mm", type=Number(1, 500), default=20.0, show_default=True, help="Side of a square of the board."
)
@click.option(
    "--latency/--no-latency", default=None, help="Also time the network.  [default: only while no daemon runs]"
)
@click.option("--consecutive", is_flag=True, help="Image files are neighbouring frames, like those of a video.")
@click.option("--keep-all", is_flag=True, help="All footage is good surface: leave no outlier out.")
@click.option("--i-have-looked", "has_looked", is_flag=True, help="Accept what the calibration objects to; recorded.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the summary page here, always.")
@click.option("--yes", is_flag=True, help="Ask nothing: write what was measured.")
@exits_with_reason
def auto(
    config_path: Path,
    as_json: bool,
    progress_lines: bool,
    camera: str | None,
    report: Path | None,
    yes: bool,
    **options: Any,
) -> None:
    """Measure region, light, scale, good surface and latency of a camera, show the result, and write it if you agree.

    Frames come from the running daemon (`--source live:`, the default while it runs), from recordings, or else from
    the camera. They must show good, moving product. A step that does not help is skipped; footage that is not good is
    refused, with the reason of each step. Until you agree nothing is written; then everything is, at once. `defectd
    calibrate undo` takes all of it back.

    \b
    Examples:
      defectd calibrate auto --camera top
      defectd calibrate auto --camera top --source good.mp4 --length-mm 1250 --yes
    """
    wanted = Wanted(**options)
    if wanted.points is not None and (wanted.length_mm is None or isinstance(wanted.points[0], tuple)):
        raise click.UsageError("--points x,y,x,y goes with --length-mm")
    if wanted.board and wanted.length_mm is not None:
        raise click.UsageError("--board and --length-mm both give the scale: give one of them")
    one_thread_each()
    from edge.errors import CalibrationError

    real = Run(config_path, camera, "roi", Output(as_json=as_json))
    is_running = real.settings.state.is_locked()
    if is_running and not wanted.sources:
        wanted = replace(wanted, sources=("live:",))
    with _trial_state(real) as state_dir:
        output = Output(as_json=as_json, progress_lines=progress_lines)
        trial = _Trial(config_path, real.camera.name, output, state_dir, wanted)
        _announce(real, wanted, as_json=as_json)
        steps = _measure(trial, wanted, is_running=is_running)
        refused = [step for step in steps if step.state == "refused"]
        page = _page(real, trial, steps)
        if report is not None:
            report.write_text(page, "utf-8")
        if refused:
            reasons = "\n".join(f"  {step.title}: {' '.join(step.says)}" for step in refused)
            if as_json:
                click.echo(json.dumps(_results(real, steps, report, None, None)))
            raise CalibrationError(f"nothing was written. This footage is refused:\n{reasons}")
        change, tuned = trial.changes(real, page, report)
        if not yes:
            shown = report or state_dir / "summary.html"
            shown.write_text(page, "utf-8")
            _ask_consent(shown)
        done = _apply(change, tuned)
    _finish(real, steps, report or change.path.with_name(_report_name(real)), done, as_json=as_json)


class _Trial(Run):
    """Runs the steps on a copy of the calibrations, and collects what they say and draw."""

    def __init__(self, config_path: Path, camera: str, output: Output, state_dir: Path, wanted: Wanted) -> None:
        from edge.config import calibration_change

        super().__init__(config_path, camera, "roi", output, state_dir)
        self.sources = wanted.sources
        self._minutes = wanted.minutes
        self._gathered: Footage | None = None
        self._said: list[str] = []
        self._changes: dict[str, Change] = {}
        self.label = ""
        self._seen = {path: calibration_change.digest(path) for path in (self.path, self.settings.state.tuning)}

    def step(self, kind: str, title: str) -> None:
        """The next calibration."""
        self._kind, self.label, self._said = kind, title, []

    def pictures(self) -> dict[str, bytes]:
        """Those of the present step, by name."""
        change = self._changes.get(self._kind)
        if change is None:
            return {}
        start = "node." if change.is_tuning else f"{self.camera.name}."
        named = {name.removeprefix(start).removesuffix(".png"): data for name, data in change.beside.items()}
        return {name: data for name, data in named.items() if name in _captions()}

    @property
    def said(self) -> tuple[str, ...]:
        return tuple(self._said)

    def say(self, sentence: str) -> None:
        self._said.append(sentence)

    def done(self, found: dict[str, Any], then: str = "") -> None:
        """The results are in the calibration of the trial."""

    def progress(self, total: int | None, label: str) -> AbstractContextManager[Callable[[], None]]:
        return super().progress(total, f"{self.label}: {label}")

    def footage(self, sources: tuple[str, ...], max_frames: int, **options: Any) -> Any:
        """The same frames for all steps that take a few; those of a board are others."""
        if sources != self.sources:
            return super().footage(sources, max_frames, **options)
        if self._gathered is None:
            from edge.calibration.footage import expected_frames

            every_s = self._minutes * 60 / SHARE_OF_TIME / FRAMES
            pictures = expected_frames(sources, MAX_FRAMES) if sources and "live:" not in sources else 0
            every = max(1, pictures // FRAMES) if pictures < MAX_FRAMES else 1
            self._gathered = super().footage(sources, FRAMES, every_s=every_s, every=every)
        return self._gathered

    def _keep(self, change: Change, drawn: list[str], before: Any, after: Any) -> None:
        super()._keep(change, drawn, before, after)
        self._changes[change.kind] = change

    def changes(self, real: Run, page: str, report: Path | None) -> tuple[Change, Change | None]:
        """All that is to be written: the camera's part with its data and pictures, and the machine's."""
        from edge.config import calibration, calibration_change

        beside = {
            name: data
            for change in self._changes.values()
            if not change.is_tuning
            for name, data in change.beside.items()
        }
        after = calibration.load(self.path)
        if report is None:
            beside[_report_name(real)] = page.encode()
        change = calibration_change.Change(
            "auto", real.camera.name, real.path, self._seen[self.path], after.coded(), beside
        )
        tuned = self._changes.get("latency")
        if tuned is not None:
            tuned = replace(tuned, path=real.settings.state.tuning, before_sha256=self._seen[tuned.path])
        return change, tuned


def _captions() -> frozenset[str]:
    from edge.calibration.summary import CAPTIONS

    return frozenset(CAPTIONS)


def _report_name(run: Run) -> str:
    return f"{run.camera.name}.auto.html"


@contextmanager
def _trial_state(real: Run) -> Iterator[Path]:
    """A state directory with copies of the calibrations and the models of the real one; it is removed at the end."""
    state = real.settings.state
    with tempfile.TemporaryDirectory(prefix="defectd-auto-") as place:
        trial = Path(place)
        (trial / "calibration").mkdir()
        if state.tuning.parent.is_dir():
            shutil.copytree(state.tuning.parent, trial / "calibration", dirs_exist_ok=True)
        if state.overrides.is_file():
            shutil.copy(state.overrides, trial)
        if state.models.is_dir():
            (trial / state.models.name).symlink_to(state.models.resolve(), target_is_directory=True)
        yield trial


def _announce(real: Run, wanted: Wanted, *, as_json: bool) -> None:
    from edge.calibration.footage import source_name

    if not as_json:
        source = "the running daemon" if wanted.sources == ("live:",) else source_name(real.camera, wanted.sources)
        echo(f"Camera {real.camera.name}, from {source}. At most {wanted.minutes:g} min of good, moving product.")


# ---- the steps -------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Sequence:
    """Runs the steps one after another, and reports each as it ends."""

    trial: _Trial
    results: list[StepResult] = field(default_factory=list)

    @property
    def is_refused(self) -> bool:
        return any(step.state == "refused" for step in self.results)

    def run(self, kind: str, title: str, measure: Callable[[], object]) -> None:
        """Skipped where the configuration has its own value, or the result would help nothing."""
        from edge.errors import CalibrationError, NeedlessCalibration

        self.trial.step(kind, title)
        own = self.trial.overrides()
        if own:
            self._add(kind, title, "skipped", own)
            return
        try:
            measure()
        except NeedlessCalibration as error:
            self._add(kind, title, "skipped", [str(error)])
        except CalibrationError as error:
            self._add(kind, title, "refused", [str(error)])
        else:
            self._add(kind, title, "done", self.trial.said)

    def skip(self, kind: str, title: str, why: str) -> None:
        self.trial.step(kind, title)
        self._add(kind, title, "skipped", [why], pictures=False)

    def _add(self, kind: str, title: str, state: Any, says: Any, *, pictures: bool = True) -> None:
        from edge.calibration.summary import StepResult

        drawn = self.trial.pictures() if pictures and state == "done" else {}
        self.results.append(StepResult(kind, title, state, tuple(says), drawn))
        if not self.trial.as_json:
            heads = HEADLINES.get(kind, ())
            ordered = sorted(map(str.strip, says), key=lambda line: not line.startswith(heads) if heads else False)
            first, *more = ordered[:SHOWN]
            result(MARKS[state], f"{title}: {first}", *more)


def _measure(trial: _Trial, wanted: Wanted, *, is_running: bool) -> list[StepResult]:
    """All steps in their order: the later ones look through the region and the light of the earlier ones."""
    if "live:" in wanted.sources:
        with suppress(OSError):
            os.nice(NICE)
    trial.step("roi", "first look")
    trial.footage(wanted.sources, FRAMES)  # refused as a whole where it is dark, blurred, or of several sizes
    steps = _Sequence(trial)
    steps.run("roi", "region", lambda: _find_region(trial, wanted))
    steps.run("flatfield", "even light", lambda: flatfield.even_out(trial, wanted.sources, FRAMES))
    if wanted.board or wanted.length_mm is not None:
        steps.run("scale", "scale", lambda: _measure_scale(trial, wanted))
    else:
        steps.skip("scale", "scale", "no known length: give --length-mm with the width of the strip, or --board")
    if steps.is_refused:
        steps.skip("normal", "good surface", "not looked at, because an earlier step is refused")
        return steps.results
    steps.run("normal", "good surface", lambda: _learn(trial, wanted))
    if steps.is_refused:
        return steps.results
    if wanted.latency or (wanted.latency is None and not is_running):
        steps.run("latency", "latency", lambda: _time(trial, wanted))
    else:
        why = "the daemon runs and would compete" if wanted.latency is None else "not wanted"
        steps.skip("latency", "latency", f"{why}; `defectd calibrate latency` does it")
    return steps.results


def _find_region(trial: _Trial, wanted: Wanted) -> None:
    """A fixed region, one that follows the edges where they wander too far for it, or the frame that the strip fills.

    With it the size of the tiles counts as chosen: the summary shows them, before anybody agrees.
    """
    from edge.calibration.roi import WanderError
    from edge.config import calibration
    from edge.errors import NeedlessCalibration

    known = calibration.load(trial.path).roi
    own = calibration.tiled(trial.camera, trial.path).tile_px if calibration.has_open_tile(trial.camera) else None
    tile: dict[str, Any] = {"tile_px": wanted.tile_px or own, "shows_tiles": True}
    try:
        roi.find_region(trial, wanted.sources, FRAMES, **tile)
    except WanderError:
        roi.find_region(trial, wanted.sources, FRAMES, track=True, **tile)
    except NeedlessCalibration:
        if known is not None and known.roi is not None:
            roi.find_region(trial, wanted.sources, FRAMES, keep_region=True, **tile)
        else:
            whole = (0, 0, *trial.footage(wanted.sources, FRAMES).size_px)
            exclude = () if known is None else known.exclude
            roi.find_region(trial, wanted.sources, FRAMES, shape=whole, exclude=exclude, **tile)
            trial.say("no dark background beside the strip: the whole frame is inspected")
    if own is not None:
        trial.say("the summary shows them; another size: --tile-px")


def _measure_scale(trial: _Trial, wanted: Wanted) -> None:
    from edge.calibration.scale import Board

    board = Board(*wanted.squares, wanted.square_mm)
    if wanted.board:
        scale.measure(trial, wanted.board, FRAMES, board)
        return
    points = wanted.points or _across(trial)
    scale.measure(trial, wanted.sources, FRAMES, board, length_mm=wanted.length_mm, points=points)
    trial.say(f"{wanted.length_mm:g} mm from {points[0]},{points[1]} to {points[2]},{points[3]} px")


def _across(trial: _Trial) -> tuple[int, int, int, int]:
    """The two edges of the strip, half way down the frame.  Raises CalibrationError."""
    from edge.config import calibration
    from edge.errors import CalibrationError

    part = calibration.load(trial.path).roi
    edges = {} if part is None else part.edges
    if not {"left", "right"} <= edges.keys():
        raise CalibrationError(
            "--length-mm is the width of the strip, but the frames do not show both of its edges. Give --points with "
            "the ends of the length, or leave --length-mm out"
        )
    left, right = (round((edges[side]["start_px"] + edges[side]["end_px"]) / 2) for side in ("left", "right"))
    middle = trial.footage(trial.sources, FRAMES).size_px[1] // 2
    return left, middle, right, middle


def _learn(trial: _Trial, wanted: Wanted) -> None:
    from edge.calibration.anomaly import DEFAULT_FPS

    is_live = not wanted.sources or "live:" in wanted.sources
    recorded = max(1, round(wanted.minutes * 60 * (trial.camera.fps or DEFAULT_FPS)))
    anomaly.learn(
        trial,
        wanted.sources,
        MAX_FRAMES if is_live else recorded,
        per_hour=wanted.per_hour,
        consecutive=wanted.consecutive,
        keep_all=wanted.keep_all,
        has_looked=wanted.has_looked,
        limit_s=wanted.minutes * 60 if is_live else None,
    )


def _time(trial: _Trial, wanted: Wanted) -> None:
    latency.find_fastest(trial, wanted.sources, FRAMES, rounds=LATENCY_ROUNDS, for_s=LATENCY_S, hold_s=None)


# ---- the end ---------------------------------------------------------------------------------------


def _page(real: Run, trial: _Trial, steps: list[StepResult]) -> str:
    from edge import __version__
    from edge.calibration import summary
    from edge.host.clock import SystemClock, local_date_time

    refused = [step.title for step in steps if step.state == "refused"]
    done = [step.title for step in steps if step.state == "done"]
    heading = (
        f"Refused: {', '.join(refused)}. Nothing was written."
        if refused
        else f"Measured: {', '.join(done) or 'nothing'}. Look at the pictures before you agree."
    )
    footage = trial.footage(trial.sources, FRAMES)
    facts = {
        "node": real.settings.node,
        "time": local_date_time(SystemClock().wall_ns()),
        "frames": f"{footage.source}, {footage.size_px[0]}x{footage.size_px[1]} px",
        "version": __version__,
    }
    return summary.page(real.camera.name, heading, facts, steps)


def _ask_consent(shown: Path) -> None:
    """Go on when a person agrees; otherwise end without writing."""
    note(f"Look at the summary: {shown.resolve().as_uri()}")
    if not sys.stdin.isatty():
        note("nothing was written: nobody can be asked here; --yes writes what was measured")
        sys.exit(EXIT_FAILED)
    if not click.confirm("Write this calibration?"):
        note("nothing was written")
        sys.exit(EXIT_FAILED)


def _apply(change: Change, tuned: Change | None) -> dict[str, Any]:
    from edge.config import calibration_change

    with uninterrupted():
        return calibration_change.apply_with_tuning(change, tuned)


def _finish(real: Run, steps: list[StepResult], report: Path, done: dict[str, Any], *, as_json: bool) -> None:
    """Reload the daemon, where one runs, and say what was done."""
    from edge.control.unix_socket import ask
    from edge.errors import CommandError

    try:
        reloaded, why_not = ask(real.settings.state_dir, "reload"), ""
    except CommandError as error:
        reloaded, why_not = None, str(error)
    if as_json:
        click.echo(json.dumps(_results(real, steps, report, done, reloaded)))
    else:
        echo(f"written: {real.path}; summary: {report}")
        if why_not:
            note(f"the daemon did not take it over: {why_not}")
        else:
            note("the daemon uses it" if reloaded is not None else "the daemon uses it from its next start")
        note(f"to take all of it back: defectd calibrate undo --camera {real.camera.name}")


def _results(
    real: Run, steps: list[StepResult], report: Path | None, done: dict[str, Any] | None, reloaded: Any
) -> dict[str, Any]:
    return {
        "camera": real.camera.name,
        "steps": [step.as_json() for step in steps],
        "report": None if report is None else str(report),
        "applied": done is not None,
        "change": done,
        "reload": reloaded,
    }
