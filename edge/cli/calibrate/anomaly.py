"""calibrate normal: good surface, and the threshold for the false alarms that are allowed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli.calibrate.session import Run
from edge.cli.exit_codes import exits_with_reason
from edge.cli.numeric_threads import one_thread_each
from edge.cli.options import Number, config_option, json_option

if TYPE_CHECKING:
    from edge.calibration.anomaly import Collected, Fit, Pace, Promise
    from edge.model.classifier import Classifier

TEN_MINUTES = 18_000
"""Frames at 30 in a second."""


@click.command()
@config_option
@json_option
@click.option("--camera", help="Which camera of the configuration; the first when not given.")
@click.option("--source", "sources", multiple=True, metavar="PATH", help="Recording instead of the camera; repeatable.")
@click.option(
    "--frames", type=click.IntRange(1, 1_000_000), default=TEN_MINUTES, show_default=True, help="At most; all are used."
)
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@click.option(
    "--false-alarms-per-hour",
    "per_hour",
    type=Number(1e-6, 100_000),
    help="Allowed of this camera; 1 when neither is given.",
)
@click.option(
    "--false-alarm-rate",
    "per_tile",
    type=Number(1e-9, 0.5),
    help="Or: share of good tiles, each taken alone.",
)
@click.option("--consecutive", is_flag=True, help="Image files are neighbouring frames, as those of a video are.")
@click.option("--keep-all", is_flag=True, help="Everything is good surface: leave nothing out.")
@click.option("--bundle", "bundle_path", help="Of this model, which need not decide yet: before it is installed.")
@exits_with_reason
def normal(
    config_path: Path,
    as_json: bool,
    camera: str | None,
    sources: tuple[str, ...],
    frames: int,
    dry_run: bool,
    per_hour: float | None,
    per_tile: float | None,
    consecutive: bool,
    keep_all: bool,
    bundle_path: str | None,
) -> None:
    """Good surface, from footage that you vouch for: then one number governs false alarms.

    Ten minutes of good, moving product are a good begin. Tiles that stand out are left out and shown: look at them.

    \b
    defectd calibrate normal --camera top --false-alarms-per-hour 1
    defectd calibrate normal --camera top --source good.mp4 --false-alarm-rate 0.001
    """
    if per_hour is not None and per_tile is not None:
        raise click.UsageError("give --false-alarms-per-hour or --false-alarm-rate, not both")
    one_thread_each()
    from edge.calibration import anomaly, anomaly_plots
    from edge.config import calibration
    from edge.host.clock import SystemClock
    from edge.vision.inspector import Inspector

    run = Run(config_path, camera, as_json=as_json, dry_run=dry_run)
    clock = SystemClock()
    fitted, model = run.effective(bundle_path)
    fitted, classifier = fitted.model_copy(update={"anomaly": "classes"}), model.classifier
    seen = anomaly.Collected(Inspector(fitted, classifier, clock), classifier)
    source, size_px, fps = _gather(run, seen, sources, frames, consecutive=consecutive)
    in_order = fitted.mode == "strip" and len(set(seen.runs)) <= len(seen.runs) / 2
    k, n = (fitted.decision.confirm_frames, fitted.decision.confirm_window) if in_order else (1, 1)
    wanted = anomaly.Wanted(1.0 if per_hour is None and per_tile is None else per_hour, per_tile)
    pace = anomaly.Pace(fps, k, n)
    found = anomaly.fit(seen, wanted, pace, keep_all=keep_all)
    are_tiles = per_tile is not None and not consecutive and size_px == (fitted.tile_px, fitted.tile_px)
    made = run.made_of(source, found.frames, None if are_tiles else size_px)
    content = found.anomaly.coded()
    name = run.named("normal", content, "npz")
    part = _part(found, pace, wanted, name, made)
    others = tuple(
        one
        for one in calibration.load(run.path).normal
        if one.model["sha256"] != part.model["sha256"] and one.made.frame_px == made.frame_px
    )
    parts: dict[str, Any] = {
        "normal": (part, *others)[: calibration.MAX_SURFACES],
        "reference": anomaly.reference_of(seen, found, made),
    }
    run.keep(
        parts,
        pictures={
            "normal": anomaly_plots.tail_plot(found),
            "normal-tiles": anomaly_plots.contact_sheet(found.odd),
            "normal-map": anomaly_plots.heat_map(found),
        },
        files={name: content},
    )
    for sentence in _told(seen, found, pace, classifier):
        run.say(sentence)
    if are_tiles:
        run.say("the pictures are single tiles: this holds for frames of any size, as long as tile_px stays")
    more = {"left_out_frames": list(found.left_out[:1000]), "carried": found.carried}
    run.done(part.model_dump(mode="json", exclude={"made"}) | more)


def _gather(
    run: Run, seen: Collected, sources: tuple[str, ...], most: int, *, consecutive: bool
) -> tuple[str, tuple[int, int], float]:
    """Take footage in.  Returns where it comes from, width and height, and frames in a second."""
    from edge.calibration.anomaly import DEFAULT_FPS
    from edge.calibration.footage import about, shots, where
    from edge.errors import CalibrationError
    from edge.host.clock import NS_PER_S, SystemClock

    first = last = None
    size_px = (0, 0)
    with run.progress(about(sources, most), "frames") as advance:
        for number, shot in enumerate(shots(run.camera, sources, SystemClock(), consecutive=consecutive), 1):
            height, width = shot.pixels.shape
            size_px = (width, height)
            first, last = first or shot, shot
            more = seen.see(shot.label, shot.pixels, follows=shot.follows)
            advance()
            if number >= most or not more:
                break
    source = where(run.camera, sources)
    if first is None or last is None:
        raise CalibrationError(f"{source} gave no frame")
    fps = run.camera.fps or DEFAULT_FPS
    if not run.camera.fps and first.grabbed_ns is not None and last.grabbed_ns is not None and last is not first:
        measured = (last.number - first.number) * NS_PER_S / max(1, last.grabbed_ns - first.grabbed_ns)
        fps = round(measured, 2) or DEFAULT_FPS
    return source, size_px, fps


def _part(found: Fit, pace: Pace, wanted: Any, name: str, made: Any) -> Any:
    from edge.config.calibration import Promised, Surface

    def promised(one: Promise) -> Promised:
        return Promised(
            threshold=round(one.threshold, 5),
            exact=one.exact,
            expected=_short(one.expected),
            low=_short(one.low),
            high=_short(one.high),
            shown=_short(one.shown),
        )

    model = found.anomaly.model
    return Surface(
        file=name,
        model={"name": model.name, "version": model.version, "sha256": model.sha256},
        false_alarms_per_hour=wanted.per_hour,
        false_alarm_rate=wanted.per_tile,
        promised=promised(found.promise),
        alone=None if found.alone is None else promised(found.alone),
        doubt=round(found.anomaly.doubt, 5),
        tiles=found.tiles,
        pieces=found.pieces,
        piece_frames=found.piece_frames,
        fps=pace.fps,
        confirm=(pace.k, pace.n),
        left_out=len(found.left_out),
        made=made,
    )


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _told(seen: Collected, found: Fit, pace: Pace, classifier: Classifier) -> list[str]:
    """The report, sentence by sentence."""
    from edge.calibration.footage import listed

    minutes = found.frames / pace.fps / 60
    model = f"model {found.anomaly.model}, {classifier.network}"
    said = [
        f"{found.frames} frames, {found.tiles} tiles, {minutes:.1f} min at {pace.fps:g} fps; {model}",
        f"good surface resembles itself for {found.piece_frames} frames: {found.pieces} independent pieces",
    ]
    if seen.bad:
        said.append(f"left aside, since they show no surface: {listed(seen.bad)} frames")
    if seen.repeated:
        said.append(f"left aside, since they repeat an earlier one: {seen.repeated} frames")
    if found.left_out:
        said += [
            f"{found.places} places ({len(found.left_out)} frames) stand out and were LEFT OUT: look at the picture",
            "  `normal-tiles`; if they are good surface, say so with --keep-all",
        ]
    promise = found.promise
    how = "counted on this footage" if promise.exact else "carried beyond this footage by a generalised Pareto tail"
    said.append(f"threshold {promise.threshold:.3f} for {found.wish}: {how}")
    if not promise.exact:
        said.append(f"  expected there: {promise.expected:.3g}, 90 % interval {promise.low:.2g} to {promise.high:.2g}")
    if found.carried is not None:
        times = promise.threshold / float(found.maxima.max())
        said += [
            f"  WARNING: that is {times:.1f} times the largest score of this footage: small flaws will be missed.",
            f"  Give more footage; this much carries about {found.carried:.2g} {found.unit}",
        ]
    if found.alone is not None:
        said.append(
            f"  {pace.k} of {pace.n} frames have to confirm it; with single frames the threshold would be "
            f"{found.alone.threshold:.3f}"
        )
    said.append("assumed: the line will show surface like this footage, piece by piece in any order")
    if not found.split:
        said.append("  few tiles, each twentieth counted by what the others say: nearly exact, not strictly")
    said.append(f"shown by this footage alone, whatever the tail: at most {promise.shown:.3g} {found.unit} (95 %)")
    if promise.shown > found.asked:
        need = f"{found.needed_pieces} independent pieces of good surface without one"
        if found.needed_hours is not None:
            need = f"{found.needed_hours:.2g} h of good footage without an alarm"
        is_short = found.pieces < found.needed_pieces
        why = "this footage is too short for that" if is_short else "of this footage some are above the threshold"
        said.append(f"  to show {found.asked:g} needs {need}: {why}")
    return said
