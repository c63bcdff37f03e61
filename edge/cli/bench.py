"""bench: what this box can do."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edge.cli.options import Seconds, json_option
from edge.cli.refusal import refusals_told
from edge.cli.terminal import progress
from edge.cli.threads import one_thread_each


@click.command()
@json_option
@click.option("--bundle", "bundle_path", default="builtin", show_default=True, help="The model bundle.")
@click.option("--calls", type=click.IntRange(10, 100_000), default=300, show_default=True, help="n of each figure.")
@click.option("--cameras", "with_cameras", is_flag=True, help="Also find out how many cameras this box holds; minutes.")
@click.option("--for", "for_s", type=Seconds(), default="10s", show_default=True, help="For each number of cameras.")
@click.option(
    "--reference",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="ONNX file of the reference network (tests/bench makes it): its recipe is measured beside ours.",
)
@refusals_told
def bench(
    as_json: bool, bundle_path: str, calls: int, with_cameras: bool, for_s: float, reference: Path | None
) -> None:
    """Latency of this box per tile and per frame, beside the loops of others."""
    one_thread_each()
    from edge import bundle
    from edge.bench import ROWS, loads, measure, side_by_side

    loaded = bundle.load(bundle_path)
    if not as_json:
        click.echo(f"{loaded.card.name} {loaded.card.version}; times in ms; quote ratios, not milliseconds")
        click.echo(f"{'what':34} {'threads':>7} {'batch':>5} {'median':>9} {'p99':>9} {'per tile':>9} {'n':>6}")
    with progress(ROWS, "measuring", hidden=sys.stdout.isatty()) as advance:
        for row in measure(loaded, calls):
            if as_json:
                click.echo(json.dumps(asdict(row)))
            else:
                click.echo(
                    f"{row.what:34} {row.threads:>7} {row.batch:>5} {row.median_ms:>9.3f} {row.p99_ms:>9.3f} "
                    f"{row.median_ms / row.tiles:>9.4f} {row.n:>6}"
                )
            advance()
    if not as_json:
        click.echo(f"\n{'one thread, in turns, us per tile':56} {'median':>9} {'p99':>9} {'ratio':>7} {'n':>6}")
    for side in side_by_side(loaded, calls, reference):
        if as_json:
            click.echo(json.dumps(asdict(side)))
        else:
            click.echo(f"{side.what:56} {side.median_us:>9.1f} {side.p99_us:>9.1f} {side.ratio:>7.2f} {side.n:>6}")
    if reference is None and not as_json:
        click.echo("the reference's recipe is left out: give its network with --reference")
    if with_cameras:
        _bench_cameras(loads(loaded, for_s), as_json=as_json)


def _bench_cameras(measured: Iterator[Any], *, as_json: bool) -> None:
    if not as_json:
        click.echo("\ncameras of 1600x256: grab to verdict in ms; cores and MB of the daemon, and of each camera")
        head = ("cameras", "fps", "verdict", "p50", "p99", "p99.9", "max", "partial", "missed", "cores", "MB", "n")
        click.echo(" ".join(f"{name:>9}" for name in head))
    for load in measured:
        if as_json:
            click.echo(json.dumps(asdict(load)))
            continue
        total = load.total
        cores = f"{load.daemon_cpu:.2f}/{load.camera_cpu:.2f}"
        memory = f"{load.daemon_bytes >> 20}/{load.camera_bytes >> 20}"
        click.echo(
            f"{load.cameras:>9} {load.fps:>9g} {load.verdict:>9} {total.p50:>9.1f} {total.p99:>9.1f} "
            f"{total.p999:>9.1f} {total.max:>9.1f} {load.partial:>9.1%} {load.missed:>9.1%} {cores:>9} {memory:>9} "
            f"{total.n:>9}"
        )
