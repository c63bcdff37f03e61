"""bench: what this machine can do."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from edge.cli.exit_codes import exits_with_reason
from edge.cli.numeric_threads import one_thread_each
from edge.cli.options import Number, Seconds, json_option
from edge.cli.progress import progress

if TYPE_CHECKING:
    from edge.pipeline.benchmark import Row
    from edge.pipeline.camera_load import CameraLoad
    from edge.pipeline.histogram import Summary
    from edge.pipeline.side_by_side import Side


def _renamed(_ctx: click.Context, _param: click.Parameter, value: Any) -> None:
    if value is not None:
        raise click.UsageError("--hold is now called --camera-count")


@click.command(short_help="Measure the latency of this machine.")
@json_option
@click.option("--bundle", "bundle_path", default="builtin", show_default=True, help="The model bundle.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "int8"]),
    default="auto",
    show_default=True,
    help="Network that inspects whole frames and cameras.",
)
@click.option("--calls", type=click.IntRange(10, 100_000), default=300, show_default=True, help="n of each figure.")
@click.option(
    "--cameras",
    "with_cameras",
    is_flag=True,
    help="Also find how many cameras this machine keeps up with; takes minutes.",
)
@click.option(
    "--camera-count", type=click.IntRange(1, 64), help="Only run this many cameras, and show the time of every stage."
)
@click.option("--hold", hidden=True, expose_value=False, callback=_renamed)
@click.option(
    "--fps", type=Number(0.1, 1000), default=30, show_default=True, help="Frames per second, with --camera-count."
)
@click.option(
    "--for", "for_s", type=Seconds(), default="10s", show_default=True, help="Time for each number of cameras."
)
@click.option(
    "--reference",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="ONNX file of the reference network (tests/bench exports one): also measure its recipe.",
)
@exits_with_reason
def bench(
    as_json: bool,
    bundle_path: str,
    precision: Literal["auto", "fp32", "int8"],
    calls: int,
    with_cameras: bool,
    camera_count: int | None,
    fps: float,
    for_s: float,
    reference: Path | None,
) -> None:
    """Measure the latency of this machine per tile and per frame, beside other ways to inspect the same tiles.

    \b
    Examples:
      defectd bench
      defectd bench --camera-count 4 --fps 30
    """
    one_thread_each()
    from edge import config
    from edge.model import bundle
    from edge.pipeline.benchmark import measure, row_count
    from edge.pipeline.camera_load import run_cameras, until_failing
    from edge.pipeline.side_by_side import overheads, side_by_side

    loaded = bundle.load(bundle_path)
    model = config.Model(bundle=bundle_path, precision=precision)
    if camera_count is not None:
        _print_stages(run_cameras(loaded, model, camera_count, fps, for_s), as_json=as_json)
        return
    if not as_json:
        click.echo(f"{loaded.card.name} {loaded.card.version}; times in ms; quote ratios, not milliseconds")
        click.echo(f"{'what':30} {'network':>7} {'threads':>7} {'batch':>5} {QUANTILES} {'per tile':>9} {'n':>6}")
    with progress(row_count(loaded), "measuring", hidden=sys.stdout.isatty()) as advance:
        for row in measure(loaded, model, calls):
            click.echo(json.dumps(asdict(row)) if as_json else _row(row))
            advance()
    sides = side_by_side(loaded, calls, reference)
    if as_json:
        for side in sides:
            click.echo(json.dumps(asdict(side)))
        click.echo(json.dumps({"what": "around the network", "share_of_it": overheads(sides)}))
    else:
        _print_sides(sides, overheads(sides))
    if reference is None and not as_json:
        click.echo("the reference's recipe is left out: give its network with --reference")
    if with_cameras:
        run = partial(run_cameras, loaded, model, seconds=for_s)
        _print_loads(until_failing(run), as_json=as_json)


QUANTILES: Final = " ".join(f"{name:>8}" for name in ("p50", "p95", "p99", "p99.9", "max"))


def _quantiles(summary: Summary, digits: int) -> str:
    values = (summary.p50, summary.p95, summary.p99, summary.p999, summary.max)
    return " ".join(f"{value:>8.{digits}f}" for value in values)


def _row(row: Row) -> str:
    return (
        f"{row.what:30} {row.network:>7} {row.threads:>7} {row.batch:>5} {_quantiles(row.ms, 3)} "
        f"{row.ms.p50 / row.tiles:>9.4f} {row.ms.n:>6}"
    )


def _print_sides(sides: Sequence[Side], shares: Mapping[str, float]) -> None:
    heads = " ".join(f"{'x ' + network:>7}" for network in shares)
    click.echo(f"\n{'one thread, in turns of five, us per tile':52} {'network':>7} {QUANTILES} {heads} {'n':>6}")
    for side in sides:
        ratios = " ".join(f"{ratio:>7.2f}" for ratio in side.ratios.values())
        click.echo(f"{side.what:52} {side.network:>7} {_quantiles(side.us, 1)} {ratios} {side.us.n:>6}")
    around = ", ".join(f"{share:.2f} of the network's time with {network}" for network, share in shares.items())
    click.echo(f"around the network: {around}; x fp32, x int8: times the daemon's median with that network")


def _print_stages(load: CameraLoad, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(load)))
        return
    click.echo(
        f"{load.cameras} x 1600x256 at {load.fps:g} fps, {load.network}: {load.verdict}; ms from grab to verdict"
    )
    click.echo(f"{'stage':12} {QUANTILES} {'n':>7}")
    for stage, summary in load.stages.items():
        click.echo(f"{stage:12} {_quantiles(summary, 2)} {summary.n:>7}")
    click.echo(
        f"inspected in part {load.partial:.2%}, missed {load.missed:.2%}; this process {load.daemon_cpu:.1%} of a core "
        f"and {load.daemon_bytes >> 20} MB, each camera {load.camera_cpu:.1%} and {load.camera_bytes >> 20} MB"
    )


def _print_loads(loads: Iterable[CameraLoad], *, as_json: bool) -> None:
    if not as_json:
        click.echo("\ncameras of 1600x256: grab to verdict in ms; cores and MB of the daemon, and of each camera")
        heads = ("cameras", "fps", "verdict", "p50", "p99", "p99.9", "max", "partial", "missed", "cores", "MB", "n")
        click.echo(" ".join(f"{name:>9}" for name in heads))
    for load in loads:
        if as_json:
            click.echo(json.dumps(asdict(load)))
            continue
        total = load.stages["total"]
        cores = f"{load.daemon_cpu:.2f}/{load.camera_cpu:.2f}"
        memory = f"{load.daemon_bytes >> 20}/{load.camera_bytes >> 20}"
        click.echo(
            f"{load.cameras:>9} {load.fps:>9g} {load.verdict:>9} {total.p50:>9.1f} {total.p99:>9.1f} "
            f"{total.p999:>9.1f} {total.max:>9.1f} {load.partial:>9.1%} {load.missed:>9.1%} {cores:>9} {memory:>9} "
            f"{total.n:>9}"
        )
