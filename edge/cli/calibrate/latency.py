"""calibrate latency: the fastest settings of the network on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli.calibrate.session import Output, Run, frames_options, output_options
from edge.cli.exit_codes import exits_with_reason
from edge.cli.numeric_threads import one_thread_each
from edge.cli.options import Seconds, config_option
from edge.cli.progress import note

if TYPE_CHECKING:
    from edge.config.tuning import Capacity
    from edge.pipeline.camera_load import CameraLoad


@click.command(short_help="Find the fastest settings of the network on this machine.")
@config_option
@output_options
@frames_options
@click.option(
    "--rounds", type=click.IntRange(20, 10_000), default=200, show_default=True, help="Maximum n of each combination."
)
@click.option(
    "--for", "for_s", type=Seconds(), default="60s", show_default=True, help="Time for the rounds; at least 20 are run."
)
@click.option(
    "--hold/--no-hold", default=True, show_default=True, help="Also find how many cameras this machine keeps up with."
)
@click.option(
    "--hold-for", "hold_s", type=Seconds(), default="5s", show_default=True, help="Time for each number of cameras."
)
@exits_with_reason
def latency(
    config_path: Path,
    camera: str | None,
    sources: tuple[str, ...],
    frames: int,
    output: Output,
    rounds: int,
    for_s: float,
    hold: bool,
    hold_s: float,
) -> None:
    """Find the fastest precision, threads and batch of the network on this machine, for the frames of a camera.

    Every round times every combination. int8 is a candidate only if it gives the same verdicts as fp32, on the
    camera's frames and on generated ones. A simpler combination within 5 % of the fastest is preferred to it. Stop the
    daemon meanwhile: it would compete for the processor. The result is stored in state_dir/calibration/node.yaml. It
    holds for this processor, this onnxruntime and this model.

    \b
    Examples:
      defectd calibrate latency
      defectd calibrate latency --camera top --source recorded/ --no-hold
    """
    one_thread_each()
    run = Run(config_path, camera, "latency", output)
    find_fastest(run, sources, frames, rounds=rounds, for_s=for_s, hold_s=hold_s if hold else None)


def find_fastest(
    run: Run, sources: tuple[str, ...], frames: int, *, rounds: int, for_s: float, hold_s: float | None
) -> None:
    """Time the combinations and keep the fastest.  hold_s: None: not how many cameras it keeps up with.

    Raises CalibrationError.
    """
    from edge.calibration import latency as calibration
    from edge.config import tuning
    from edge.host import machine
    from edge.host.clock import SystemClock
    from edge.vision.inspector import Inspector

    clock = SystemClock()
    calibrated, model = run.effective()
    loaded = model.bundle
    footage = run.footage(sources, min(frames, calibration.MAX_FRAMES))
    network = calibration.simplest(loaded, clock)
    tiles = Inspector(calibrated, network, clock).prepare(footage.frames[0], follow=False).tiles
    parity = calibration.parity(loaded, calibrated, footage.frames, clock)
    if parity.why_not:
        run.say(f"int8 is left out: {parity.why_not}")
    else:
        same = parity.tiles - parity.moved
        run.say(f"int8 and fp32 agree on {same} of {parity.tiles} tiles ({parity.defects} with defects)")
    wanted = calibration.combinations(["fp32"] if parity.why_not else ["fp32", "int8"], machine.cores(), tiles)
    width, height = footage.size_px
    run.say(f"frames of {width}x{height} px, {tiles} tiles, {len(wanted)} combinations")
    with run.progress(rounds, "timing") as advance:
        rows = calibration.measure(
            loaded, calibrated, footage.frames, clock, wanted, rounds=rounds, limit_s=for_s, on_round=advance
        )
    best = calibration.best(rows)
    for row in sorted(rows, key=lambda row: row.calm_ms):
        settings = calibration.RunSettings(row.precision, row.threads, row.batch)
        mark = "  <- chosen" if row == best else ""
        run.say(f"{settings!s:28} p50 {row.p50_ms:7.2f} ms, p99 {row.p99_ms:7.2f} ms, n = {row.n}{mark}")
    holds = []
    if hold_s is not None:
        run_cameras = calibration.load_runner(loaded, best, calibrated, footage.size_px, clock, hold_s)
        holds = [_capacity(run, run_cameras, fps) for fps in calibration.PACES_FPS]
    kept = tuning.Tuning(
        schema=tuning.SCHEMA,
        place=tuning.here(loaded.digest),
        camera=run.camera.name,
        tiles=tiles,
        chosen=best,
        rows=tuple(rows),
        parity=parity,
        holds=tuple(holds),
        made=run.made(footage),
    )
    run.keep_tuning(kept, pictures={"latency": calibration.chart(rows, best)})
    for line in calibration.report(kept, run.camera.budget_ms):
        run.say(line)
    by_file = run.settings.model
    own = {"precision": by_file.precision, "threads": by_file.threads, "batch": by_file.batch}
    by_hand = {key: value for key, value in own.items() if value not in (None, "auto")}
    if by_hand:
        named = ", ".join(f"model.{key}: {value}" for key, value in by_hand.items())
        note(f"the configuration sets {named}, which overrides this result: remove it there to use the result")
    results = {**kept.model_dump(mode="json", by_alias=True), "by_hand": by_hand} if run.as_json else {}
    run.done(results, "the daemon uses it from its next start")


def _capacity(run: Run, run_cameras: Callable[[int, float], CameraLoad], fps: float) -> Capacity:
    from edge.calibration import latency as calibration

    with run.progress(calibration.MAX_TRIALS, f"cameras at {fps:g} fps") as advance:

        def run_and_report(count: int) -> CameraLoad:
            load = run_cameras(count, fps)
            advance()
            run.say(
                f"{count:>3} cameras at {fps:g} fps: {load.verdict}, p99 {load.stages['total'].p99:.1f} ms, "
                f"{load.partial:.1%} in part, {load.missed:.1%} missed"
            )
            return load

        return calibration.capacity_at(run_and_report, fps)
