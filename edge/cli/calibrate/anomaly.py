"""calibrate normal: the anomaly model of good surface, and its threshold for the allowed false alarms."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli.calibrate.session import Output, Run, output_options, sources_option
from edge.cli.exit_codes import exits_with_reason
from edge.cli.numeric_threads import one_thread_each
from edge.cli.options import Number, config_option

if TYPE_CHECKING:
    from edge.calibration.anomaly import Collector, Fit, Pace, Promise
    from edge.model.classifier import Classifier

TEN_MINUTES = 18_000
"""Frames, at 30 per second."""


@click.command(short_help="Learn good surface: one number governs false alarms.")
@config_option
@output_options
@click.option("--camera", help="Camera of the configuration [default: the first].")
@sources_option
@click.option(
    "--frames",
    type=click.IntRange(1, 1_000_000),
    default=TEN_MINUTES,
    show_default=True,
    help="Maximum number of frames; all are used.",
)
@click.option(
    "--false-alarms-per-hour",
    "per_hour",
    type=Number(1e-6, 100_000),
    help="Allowed false alarms of this camera; 1 if neither option is given.",
)
@click.option(
    "--false-alarm-rate",
    "per_tile",
    type=Number(1e-9, 0.5),
    help="Instead: allowed share of good tiles, each counted alone.",
)
@click.option("--consecutive", is_flag=True, help="Image files are neighbouring frames, like those of a video.")
@click.option("--keep-all", is_flag=True, help="All footage is good surface: leave no outlier out.")
@click.option(
    "--i-have-looked",
    "has_looked",
    is_flag=True,
    help="A person looked at the footage: accept what the calibration objects to. It is recorded and published.",
)
@click.option("--bundle", "bundle_path", help="Calibrate for this model, for example before it is installed.")
@exits_with_reason
def normal(
    config_path: Path,
    camera: str | None,
    sources: tuple[str, ...],
    frames: int,
    output: Output,
    per_hour: float | None,
    per_tile: float | None,
    consecutive: bool,
    keep_all: bool,
    has_looked: bool,
    bundle_path: str | None,
) -> None:
    """Learn good surface from footage without defects; after that, one number governs false alarms.

    Start with ten minutes of good, moving product. Outliers are left out and shown in a picture: look at it.

    \b
    Examples:
      defectd calibrate normal --camera top --false-alarms-per-hour 1
      defectd calibrate normal --camera top --source good.mp4 --false-alarm-rate 0.001
    """
    if per_hour is not None and per_tile is not None:
        raise click.UsageError("give --false-alarms-per-hour or --false-alarm-rate, not both")
    one_thread_each()
    learn(
        Run(config_path, camera, "normal", output),
        sources,
        frames,
        per_hour=per_hour,
        per_tile=per_tile,
        consecutive=consecutive,
        keep_all=keep_all,
        has_looked=has_looked,
        bundle_path=bundle_path,
    )


def learn(
    run: Run,
    sources: tuple[str, ...],
    frames: int,
    *,
    per_hour: float | None = None,
    per_tile: float | None = None,
    consecutive: bool = False,
    keep_all: bool = False,
    has_looked: bool = False,
    bundle_path: str | None = None,
    limit_s: float | None = None,
) -> None:
    """Learn good surface and keep it.  limit_s: longest time for the footage.  Raises CalibrationError."""
    from edge.calibration import anomaly, anomaly_plots
    from edge.calibration.objections import objections
    from edge.config import calibration
    from edge.errors import CalibrationError
    from edge.host.clock import SystemClock
    from edge.model.bundle import require_features
    from edge.vision.inspector import Inspector

    clock = SystemClock()
    calibrated, model = run.effective(bundle_path)
    require_features(model.bundle.card, "calibrate normal")
    calibrated, classifier = calibrated.model_copy(update={"anomaly": "classes"}), model.classifier
    collector = anomaly.Collector(Inspector(calibrated, classifier, clock), classifier)
    source, size_px, fps = _gather(run, collector, sources, frames, consecutive=consecutive, limit_s=limit_s)
    in_order = calibrated.mode == "strip" and len(set(collector.runs)) <= len(collector.runs) / 2
    k, n = (calibrated.decision.confirm_frames, calibrated.decision.confirm_window) if in_order else (1, 1)
    allowed = anomaly.AllowedAlarms(1.0 if per_hour is None and per_tile is None else per_hour, per_tile)
    pace = anomaly.Pace(fps, k, n)
    found = anomaly.fit(collector, allowed, pace, keep_all=keep_all)
    overruled = objections(collector, found)
    refused = CalibrationError(
        f"{'. Also: '.join(overruled)}. Nothing was written. Look at the footage; to accept it all the same, give "
        "--i-have-looked"
    )
    is_refused = bool(overruled) and not has_looked
    if is_refused and not run.is_dry:
        raise refused
    are_tiles = per_tile is not None and not consecutive and size_px == (calibrated.tile_px, calibrated.tile_px)
    made = run.made_of(source, found.frames, None if are_tiles else size_px, overruled)
    content = found.anomaly.coded()
    name = run.named("normal", content, "npz")
    part = _part(found, pace, allowed, name, made)
    others = tuple(
        one
        for one in calibration.load(run.path).normal
        if one.model["sha256"] != part.model["sha256"] and one.made.frame_px == made.frame_px
    )
    parts: dict[str, Any] = {
        "normal": (part, *others)[: calibration.MAX_ANOMALY_MODELS],
        "reference": anomaly.reference_of(collector, found, made),
    }
    run.keep(
        parts,
        pictures={
            "normal": anomaly_plots.tail_plot(found),
            "normal-tiles": anomaly_plots.contact_sheet(found.shown_tiles),
            "normal-map": anomaly_plots.heat_map(found),
        },
        files={name: content},
        objections=overruled if is_refused else (),
    )
    by_word = [f"OVERRULED: {one}" for one in overruled] if has_looked else []
    for sentence in (*_report(collector, found, pace, classifier), *by_word):
        run.say(sentence)
    if are_tiles:
        run.say(
            "the pictures are single tiles: this calibration holds for frames of any size, as long as tile_px stays"
        )
    more = {"left_out_frames": list(found.left_out[:1000]), "carried": found.supported_rate}
    run.done(part.model_dump(mode="json", exclude={"made"}) | more)
    if is_refused and not run.has_plates:  # with plates, `apply` refuses, and a person can look first
        raise refused


def _gather(
    run: Run,
    collector: Collector,
    sources: tuple[str, ...],
    max_frames: int,
    *,
    consecutive: bool,
    limit_s: float | None,
) -> tuple[str, tuple[int, int], float]:
    """Score the footage.  Returns its source, width and height, and frames per second."""
    from edge.calibration.anomaly import DEFAULT_FPS
    from edge.calibration.footage import expected_frames, shots, source_name
    from edge.errors import CalibrationError
    from edge.host.clock import NS_PER_S, SystemClock

    first = last = None
    size_px = (0, 0)
    clock = SystemClock()
    until_ns = None if limit_s is None else clock.monotonic_ns() + int(limit_s * NS_PER_S)
    footage = shots(run.camera, sources, clock, consecutive=consecutive, feed=run.feed)
    total, label = (
        (expected_frames(sources, max_frames), "frames") if limit_s is None else (math.ceil(limit_s), "seconds")
    )
    elapsed_s = 0
    with run.progress(total, label) as advance:
        for number, shot in enumerate(footage, 1):
            height, width = shot.pixels.shape
            size_px = (width, height)
            first, last = first or shot, shot
            more = collector.add(shot.label, shot.pixels, follows=shot.follows)
            if until_ns is None:
                advance()
            else:
                now_s = total - (until_ns - clock.monotonic_ns()) / NS_PER_S
                while elapsed_s < min(total, int(now_s)):
                    elapsed_s += 1
                    advance()
            if number >= max_frames or not more or (until_ns is not None and clock.monotonic_ns() >= until_ns):
                break
    source = source_name(run.camera, sources)
    if first is None or last is None:
        raise CalibrationError(f"{source} gave no frame")
    fps = run.camera.fps or DEFAULT_FPS
    if not run.camera.fps and first.grabbed_ns is not None and last.grabbed_ns is not None and last is not first:
        measured = (last.number - first.number) * NS_PER_S / max(1, last.grabbed_ns - first.grabbed_ns)
        fps = round(measured, 2) or DEFAULT_FPS
    return source, size_px, fps


def _part(found: Fit, pace: Pace, allowed: Any, name: str, made: Any) -> Any:
    from edge.config.calibration import AnomalyPart, FalseAlarms

    def promised(one: Promise) -> FalseAlarms:
        return FalseAlarms(
            threshold=round(one.threshold, 5),
            exact=one.exact,
            expected=_short(one.expected),
            low=_short(one.low),
            high=_short(one.high),
            shown=_short(one.shown),
        )

    model = found.anomaly.model
    return AnomalyPart(
        file=name,
        model={"name": model.name, "version": model.version, "sha256": model.sha256},
        false_alarms_per_hour=allowed.per_hour,
        false_alarm_rate=allowed.per_tile,
        promised=promised(found.promise),
        alone=None if found.alone is None else promised(found.alone),
        doubt=round(found.anomaly.unsure_threshold, 5),
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


def _report(collector: Collector, found: Fit, pace: Pace, classifier: Classifier) -> list[str]:
    """The result for people, line by line."""
    from edge.calibration.footage import listed

    minutes = found.frames / pace.fps / 60
    model = f"model {found.anomaly.model}, {classifier.network}"
    lines = [
        f"{found.frames} frames, {found.tiles} tiles, {minutes:.1f} min at {pace.fps:g} fps; {model}",
        f"good surface is correlated over {found.piece_frames} frames: {found.pieces} independent pieces",
    ]
    if collector.bad:
        lines.append(f"not used, because they show no surface: {listed(collector.bad)} frames")
    if collector.repeated:
        lines.append(f"not used, because they repeat an earlier one: {collector.repeated} frames")
    if found.left_out:
        lines += [
            f"{found.places} places ({len(found.left_out)} frames) are outliers and were LEFT OUT: look at the picture",
            "  `normal-tiles`; if they show good surface, give --keep-all",
        ]
    promise = found.promise
    how = "counted on this footage" if promise.exact else "extrapolated by a generalised Pareto tail"
    lines.append(f"threshold {promise.threshold:.3f} for {found.allowed_text}: {how}")
    if not promise.exact:
        low, high = _rounded(promise.low), _rounded(promise.high)
        lines.append(f"  expected with it: {_rounded(promise.expected)}, 90 % interval {low} to {high}")
    if found.alone is not None:
        lines.append(
            f"  {pace.k} of {pace.n} frames must confirm a defect; with single frames the threshold would be "
            f"{found.alone.threshold:.3f}"
        )
    lines.append("assumption: the production line will show surface like this footage, in any order of the pieces")
    if not found.split:
        lines.append("  few tiles, so the count is cross-validated in 20 folds: nearly, not strictly exact")
    lines.append(f"shown by this footage alone, whatever the tail: at most {promise.shown:.3g} {found.unit} (95 %)")
    if promise.shown > found.allowed_rate:
        need = f"{found.needed_pieces} independent pieces of good surface without one"
        if found.needed_hours is not None:
            need = f"{found.needed_hours:.2g} h of good footage without an alarm"
        is_short = found.pieces < found.needed_pieces
        why = (
            "this footage is too short for that" if is_short else "some pieces of this footage are above the threshold"
        )
        lines.append(f"  to show {found.allowed_rate:g} needs {need}: {why}")
    return lines


def _rounded(number: float) -> str:
    """With two digits that mean something: 0.053, 5.4, 320."""
    return f"{float(f'{number:.2g}'):,g}"
