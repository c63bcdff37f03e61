"""evidence: list the pictures on this machine, and export tiles for labelling."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from edge.cli import table
from edge.cli.exit_codes import exits_with_reason
from edge.cli.options import config_option, json_option, since_option, since_wall_ns
from edge.cli.progress import note, progress
from edge.cli.table import Column

KINDS = click.Choice(["defect", "frame", "image", "shadow", "unsure", "audit"])


@click.group(short_help="Pictures of defects, and tiles to label.")
def evidence() -> None:
    """Pictures of defects, and tiles for labelling, on this machine.

    Works whether or not the daemon runs.

    \b
    Examples:
      defectd evidence list --since 2h
      defectd evidence export --since 7d --out relabel
    """


@evidence.command("list", short_help="List pictures: time, kind, label, size, path.")
@config_option
@json_option
@since_option
@click.option("--camera", help="Only this camera.")
@click.option("--kind", "kinds", type=KINDS, multiple=True, help="Only this kind; repeat for several.")
@click.option("-n", "--limit", type=click.IntRange(1), default=100, show_default=True, help="Show only the newest.")
@exits_with_reason
def list_evidence(
    config_path: Path, as_json: bool, since: str | None, camera: str | None, kinds: tuple[str, ...], limit: int
) -> None:
    """List pictures, oldest first: kind, time, label, size, path.

    \b
    Examples:
      defectd evidence list --camera top --kind defect -n 20
    """
    from edge import config
    from edge.evidence.export import chosen

    settings = config.load(config_path)
    folder = settings.evidence_dir
    found = list(chosen(folder, since_wall_ns=since_wall_ns(since), camera=camera, kinds=kinds))
    if camera is not None and not found:  # pictures of a camera that was removed are still there
        config.find_camera(settings, camera, str(config_path))
    if as_json:
        for stored, facts in found[-limit:]:
            click.echo(json.dumps({"path": stored.path, "size_bytes": stored.size_bytes, **facts}))
    else:
        columns = (
            Column("time"),
            Column("kind"),
            Column("label", folds=True),
            Column("bytes", right=True),
            Column("path", folds=True),
        )
        rows = (
            (
                _local(facts.get("time")),
                stored.kind,
                str(facts.get("label") or facts.get("reason", "")),
                f"{stored.size_bytes:,}",
                stored.path,
            )
            for stored, facts in found[-limit:]
        )
        table.show(columns, rows)
        size = sum(stored.size_bytes for stored, _ in found)
        note(f"{len(found)} pictures, {size / (1 << 20):.1f} MiB, in {folder}")


def _local(time: object) -> str:
    """The time of a picture for people; empty where its facts have none."""
    from edge.host.clock import local_date_time, wall_ns_of

    try:
        return local_date_time(wall_ns_of(str(time)))
    except ValueError:
        return ""


@evidence.command(short_help="Write tiles in class folders, for training.")
@config_option
@json_option
@since_option
@click.option("--camera", help="Only this camera.")
@click.option("--kind", "kinds", type=KINDS, multiple=True, help="Only this kind; repeat for several.")
@click.option("--labelled", is_flag=True, help="Only pictures with a label given on the page, by that label.")
@click.option(
    "--min-pictures",
    type=click.IntRange(0),
    default=0,
    help="With --labelled: leave out classes with fewer labels; `calibrate thresholds` needs 10.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to create.")
@exits_with_reason
def export(
    config_path: Path,
    as_json: bool,
    since: str | None,
    camera: str | None,
    kinds: tuple[str, ...],
    labelled: bool,
    min_pictures: int,
    out: Path,
) -> None:
    """Write tiles in class folders with a manifest.csv, as defectd-train reads them.

    The folder of a tile is the verdict of the model. Look through the folders, and move each wrong tile to the right
    one; defectd-train ignores `unsure`. With --labelled it is the label that a person gave on the page: nothing has to
    be moved, and the columns by, blind and confirmed of the manifest state who said so.

    \b
    Examples:
      defectd evidence export --since 7d --out relabel
      defectd evidence export --labelled --out labelled
    """
    from edge import config
    from edge.evidence import export as exporting

    settings = config.load(config_path)
    since_ns = since_wall_ns(since)
    tiles: Iterator[exporting.Tile]
    if labelled:
        labels_dir = settings.state.labels
        chosen, left_out = exporting.chosen_labels(
            labels_dir, since_wall_ns=since_ns, camera=camera, kinds=kinds, min_pictures=min_pictures
        )
        for name, n in sorted(left_out.items()):
            note(f"left out: {n} labels {name}")
        count, tiles = len(chosen), exporting.export_labels(labels_dir, chosen, out)
    else:
        folder = settings.evidence_dir
        found = list(exporting.chosen(folder, since_wall_ns=since_ns, camera=camera, kinds=kinds))
        count, tiles = len(found), exporting.export(folder, found, out)
    if camera is not None and not count:  # pictures of a camera that was removed are still there
        config.find_camera(settings, camera, str(config_path))
    counts: Counter[str] = Counter()
    with progress(count, "exporting", hidden=as_json) as advance:
        for tile in tiles:
            counts[tile.label] += 1
            advance()
            if as_json:
                click.echo(json.dumps(asdict(tile)))
    if not as_json:
        click.echo(f"{out}: {counts.total()} tiles" + "".join(f", {n} {label}" for label, n in sorted(counts.items())))
