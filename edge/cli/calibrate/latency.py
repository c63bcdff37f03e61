"""calibrate latency: how the network runs best on this box."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli.calibrate.session import Run, frames_options
from edge.cli.exit_codes import exits_with_reason
from edge.cli.numeric_threads import one_thread_each
from edge.cli.options import Seconds, config_option, json_option
from edge.cli.progress import note, uninterrupted

if TYPE_CHECKING:
    from edge.config.tuning import Capacity
    from edge.pipeline.camera_load import CameraLoad


@click.command()
@config_option
@json_option
@frames_options
@click.option("--rounds", type=click.IntRange(20, 10_000), default=200, show_default=True, help="n of each, at most.")
@click.option("--for", "for_s", type=Seconds(), default="60s", show_default=True, help="For the rounds; at least 20.")
@click.option("--hold/--no-hold", default=True, show_default=True, help="Also find out how many cameras hold.")
@click.option("--hold-for", "hold_s", type=Seconds(), default="5s", show_default=True, help="Each number of cameras.")
@exits_with_reason
def latency(
    config_path: Path,
    as_json: bool,
    camera: str | None,
    sources: tuple[str, ...],
    frames: int,
    dry_run: bool,
    rounds: int,
    for_s: float,
    hold: bool,
    hold_s: float,
) -> None:
    """Precision, threads and batch of the network on this box, at the camera's frame size and tiles.

    Every combination takes its turn in every round. int8 has to give fp32's verdicts first, on the camera's frames and
    on generated ones. What is within 5 % of the fastest and simpler goes before it. Stop the daemon meanwhile: it would
    take part. The result is that of the node: state_dir/calibration/node.yaml; it holds for this processor, this
    onnxruntime and this model.

    \b
    defectd calibrate latency
    defectd calibrate latency --camera top --source recorded/ --no-hold
    """
    one_thread_each()
    from edge.calibration import latency as room
    from edge.config import tuning
    from edge.host import machine
    from edge.host.clock import SystemClock
    from edge.vision.drawing import png
    from edge.vision.inspector import Inspector

    run, clock = Run(config_path, camera, as_json=as_json, dry_run=dry_run), SystemClock()
    fitted, model = run.effective()
    loaded = model.bundle
    footage = run.footage(sources, min(frames, room.MAX_FRAMES))
    network = room.plainest(loaded, clock)
    tiles = Inspector(fitted, network, clock).prepare(footage.frames[0], follow=False).tiles
    found = room.parity(loaded, fitted, footage.frames, clock)
    if found.why_not:
        run.say(f"int8 is left out: {found.why_not}")
    else:
        same = found.tiles - found.moved
        run.say(f"int8 says what fp32 says of {same} of {found.tiles} tiles ({found.defects} with defects)")
    wanted = room.ways(["fp32"] if found.why_not else ["fp32", "int8"], machine.cores(), tiles)
    width, height = footage.size_px
    run.say(f"frames of {width}x{height} px, {tiles} tiles, {len(wanted)} combinations")
    with run.progress(rounds, "timing") as advance:
        rows = room.measure(
            loaded, fitted, footage.frames, clock, wanted, rounds=rounds, limit_s=for_s, on_round=advance
        )
    best = room.best(rows)
    for row in sorted(rows, key=lambda row: row.calm_ms):
        way = room.Way(row.precision, row.threads, row.batch)
        mark = "  <- chosen" if row == best else ""
        run.say(f"{way!s:28} p50 {row.p50_ms:7.2f} ms, p99 {row.p99_ms:7.2f} ms, n = {row.n}{mark}")
    look = room.looker(loaded, best, fitted, footage.size_px, clock, hold_s)
    holds = [_held(run, look, fps) for fps in room.PACES] if hold else []
    kept = tuning.Tuning(
        schema=tuning.SCHEMA,
        place=tuning.here(loaded.digest),
        camera=run.camera.name,
        tiles=tiles,
        chosen=best,
        rows=tuple(rows),
        parity=found,
        holds=tuple(holds),
        made=run.made(footage),
    )
    path = run.settings.state.tuning
    if not dry_run:
        beside = "node.latency.png"
        with uninterrupted():
            tuning.save(path, kept, {beside: png(room.chart(rows, best))})
        run.written(path, path.with_name(beside))
    for line in room.said(kept, run.camera.budget_ms):
        run.say(line)
    by_file = run.settings.model
    own = {"precision": by_file.precision, "threads": by_file.threads, "batch": by_file.batch}
    by_hand = {key: value for key, value in own.items() if value not in (None, "auto")}
    if by_hand:
        named = ", ".join(f"model.{key}: {value}" for key, value in by_hand.items())
        note(f"the configuration says {named}, which goes before: take it out there to use what was found")
    told = {**kept.model_dump(mode="json", by_alias=True), "by_hand": by_hand} if as_json else {}
    run.done(told, "the next start of the daemon takes it over")


def _held(run: Run, look: Callable[[int, float], CameraLoad], fps: float) -> Capacity:
    from edge.calibration import latency as room

    with run.progress(room.LOOKS, f"cameras at {fps:g} fps") as advance:

        def looked(count: int) -> CameraLoad:
            load = look(count, fps)
            advance()
            run.say(
                f"{count:>3} cameras at {fps:g} fps: {load.verdict}, p99 {load.stages['total'].p99:.1f} ms, "
                f"{load.partial:.1%} in part, {load.missed:.1%} missed"
            )
            return load

        return room.held(looked, fps)
