"""coil: the coil that the running node inspects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click

from edge.cli import table
from edge.cli.exit_codes import exits_with_reason
from edge.cli.options import config_option, json_option
from edge.cli.progress import echo, note
from edge.cli.table import Cell, Column

COLUMNS: Final = (
    Column("started"),
    Column("coil"),
    Column("length", right=True),
    Column("defects", folds=True),
    Column("record"),
    Column("id"),
)


@click.group(short_help="Start, end or show the coil on the line; list coils.")
def coil() -> None:
    """The coil on the line: positions count from its start.

    \b
    Examples:
      defectd coil start A4711    a coil starts now, at 0 m
      defectd coil start A4711-1 --lane left    the same for one of the strips that run side by side
      defectd coil show           the coil, its position, and the speed of the strip
      defectd coil stop           the coil ends; positions are unknown until the next one
      defectd coil list           the coils of which the node has a record
      defectd coil release A4711 --by "J. Weber"    a person releases a coil that has ended
      defectd coil report A4711 -o A4711.pdf        the report of a coil, also as html, png, csv, json
      defectd coil trend                            how defects, grades and gaps develop from coil to coil
    """


@coil.command()
@config_option
@json_option
@click.argument("name")
@click.option("--lane", help="Lane of the camera on which it starts; otherwise it is the coil of the whole strip.")
@exits_with_reason
def start(config_path: Any, as_json: bool, name: str, lane: str | None) -> None:
    """Start a coil now, at 0 m. A coil that runs there ends.

    \b
    Examples:
      defectd coil start A4711
    """
    _order(config_path, as_json, lane, action="start", coil=name)


@coil.command()
@config_option
@json_option
@click.option("--lane", help="Lane whose coil ends; otherwise it is the coil of the whole strip.")
@exits_with_reason
def stop(config_path: Any, as_json: bool, lane: str | None) -> None:
    """End the coil.

    \b
    Examples:
      defectd coil stop
    """
    _order(config_path, as_json, lane, action="stop")


@coil.command()
@config_option
@json_option
@exits_with_reason
def show(config_path: Any, as_json: bool) -> None:
    """Show the coil, its position and the speed of the strip, and the coils of lanes.

    \b
    Examples:
      defectd coil show
    """
    _order(config_path, as_json, None, action="show")


@coil.command()
@config_option
@json_option
@click.argument("name")
@click.option("--by", required=True, help="Name of the person who releases it.")
@click.option("--grade", help="Grade, if it is another one than that by the rules.")
@click.option("--reason", help="Why it has another grade.")
@exits_with_reason
def release(config_path: Any, as_json: bool, name: str, by: str, grade: str | None, reason: str | None) -> None:
    """Release a coil that has ended. An event reports who did it. NAME: of the coil, or the id of its record.

    \b
    Examples:
      defectd coil release A4711 --by "J. Weber"
      defectd coil release A4711 --by "J. Weber" --grade B --reason "edge trimmed"
    """
    fields = {"grade": grade, "reason": reason}
    reply = _ask(config_path, "coil-release", coil=name, by=by, **{k: v for k, v in fields.items() if v is not None})
    if as_json:
        click.echo(json.dumps(reply))
        return
    released = reply["release"]
    echo(f"coil {reply['coil']} ({reply['grade']['grade']} by the rules) is released as {released['grade']} by {by}")


@coil.command("list")
@config_option
@json_option
@click.option("--last", type=click.IntRange(1, 100_000), default=20, show_default=True, help="Number of coils.")
@exits_with_reason
def list_coils(config_path: Any, as_json: bool, last: int) -> None:
    """List coils, the newest first. Reads their records; the node need not run.

    \b
    Examples:
      defectd coil list --last 5
    """
    from edge import config
    from edge.cli import screen
    from edge.coverage import coil_record
    from edge.host.clock import local_date_time, wall_ns_of

    folder = config.load(config_path).state.coils
    found = coil_record.summaries(folder)[:last]
    if as_json:
        click.echo(json.dumps({"schema": "defectd.coils/1", "coils": [each.as_json() for each in found]}))
        return
    if not found:
        echo(f"no records in {folder}")
    rows: list[tuple[Cell, ...]] = []
    for each in found:
        length = "unknown" if each.length_m is None else f"{each.length_m:.1f} m"
        counts = {name: n for name, n in each.severities.items() if n}
        worst = (
            max(counts, key=list(screen.SEVERITIES).index) if set(counts) <= set(screen.SEVERITIES) and counts else ""
        )
        defects = ", ".join(f"{n} {name}" for name, n in counts.items()) or "none"
        ends = ["so far"] if each.ended is None else []
        ends += [] if each.is_complete else ["not complete"]
        name = "no coil" if each.coil is None else each.coil
        name += "" if each.lane is None else f" (lane {each.lane})"
        started = local_date_time(wall_ns_of(each.started))
        cell: Cell = (defects, screen.SEVERITIES.get(worst, ""))
        rows.append((started, name, length, cell, (", ".join(ends), "yellow"), each.id))
    table.show(COLUMNS, rows)


@coil.command()
@config_option
@json_option
@click.argument("name", required=False)
@click.option("--last", is_flag=True, help="The last coil, in place of a name.")
@click.option(
    "-o",
    "--output",
    "outputs",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    help="File to write: .pdf, .html, .png, .csv, .csv.gz or .json. May be given several times.",
)
@click.option("--from", "counted_from", type=click.Choice(("head", "tail")), default="head", help="Where 0 m lies.")
@click.option("--paper", type=click.Choice(("a4", "letter")), default="a4", help="Size of pages.")
@click.option(
    "--keep", "kept", multiple=True, hidden=True, type=click.Choice(("end", "json", "csv.gz", "html", "png", "pdf"))
)
@exits_with_reason
def report(
    config_path: Any,
    as_json: bool,
    name: str | None,
    last: bool,
    outputs: tuple[Path, ...],
    counted_from: Any,
    paper: str,
    kept: tuple[str, ...],
) -> None:
    """The report of a coil: map, grade with its reasons, what was not inspected, roll marks, the worst defects.

    NAME: of the coil, or the id of its record. Reads the record; the node need not run. A coil that runs is
    reported so far. Without -o: the grade and its reasons.
    """
    from edge import config
    from edge.coverage.rolls import Roll
    from edge.report import files, making, sentences
    from edge.report.shelf import ReportShelf

    if (name is None) != last:
        raise click.UsageError("give the name of a coil, or --last")
    wrong = [path for path in outputs if files.format_of(path.name) is None]
    if wrong:
        raise click.UsageError(f"{wrong[0]}: the name should end with {', '.join(f'.{one}' for one in files.FORMATS)}")
    settings = config.load(config_path)
    rolls = tuple(Roll.from_json(row) for row in settings.roll_table)
    sources = making.Sources(settings.state.coils, settings.evidence_dir, settings.products, rolls)
    made = making.make(sources, name, counted_from)
    shelf = ReportShelf(settings.state.coil_reports)
    if kept:
        kinds = making.AT_THE_END if kept == ("end",) else tuple(files.format_of(f".{kind}") or "json" for kind in kept)
        written = making.shelve(made, shelf, kinds, paper, with_summary=kept == ("end",))
        click.echo(json.dumps({"id": made.report.id, "files": [one.as_json() for one in written]}))
        return
    for path in outputs:
        kind = files.format_of(path.name)
        assert kind is not None
        made.write(path, kind, paper)
        note(f"written: {path}") if as_json else echo(f"written: {path}")
    if as_json:
        for block in files.blocks("json", made.report, made.view):
            click.echo(block.decode(), nl=False)
    elif not outputs:
        echo(f"{sentences.title(made.report)}, {sentences.size(made.report)}")
        for line in sentences.why_lines(made.report):
            echo(f"  {line}")


@coil.command()
@config_option
@json_option
@click.option("--last", type=click.IntRange(1, 1000), default=100, show_default=True, help="Number of coils.")
@exits_with_reason
def trend(config_path: Any, as_json: bool, last: int) -> None:
    """How defects a kilometre, gaps, roll marks and grades develop from coil to coil. The node need not run."""
    from edge import config
    from edge.report.trend import trend_of

    state = config.load(config_path).state
    found = trend_of(state.coils, state.coil_reports, last)
    if as_json:
        click.echo(json.dumps(found.as_json()))
        return
    if not found.coils:
        echo(f"no coil has ended in {state.coils}")
        return
    grades = ", ".join(f"{n} {grade}" for grade, n in found.grades.items()) or "no grades"
    echo(f"{len(found.coils)} coils, {grades}")
    for series in (*found.others, *found.classes):
        if series.older is None or series.newer is None:
            echo(f"  {series.name:<18} unknown: only {series.coils} coils")
            continue
        is_share = series.name == "missed_share"
        one, other = (f"{n:.2%}" if is_share else f"{n:.3g}" for n in (series.older, series.newer))
        unit = "" if series.name in ("missed_share", "roll_marks") else " a km"
        echo(f"  {series.name:<18} {one} -> {other}{unit}, {series.direction} (p {series.p:g}, {series.coils} coils)")


def _ask(config_path: Any, verb: str, **fields: Any) -> dict[str, Any]:
    """The answer of the running node.  Raises CommandError."""
    from edge import config
    from edge.control.unix_socket import ask
    from edge.errors import CommandError

    state_dir = config.load(config_path).state_dir
    reply = ask(state_dir, verb, **fields)
    if reply is None:
        raise CommandError("failed", f"no daemon runs on {state_dir}")
    return reply


def _order(config_path: Any, as_json: bool, lane: str | None, **fields: Any) -> None:
    reply = _ask(config_path, "coil", **fields, **({} if lane is None else {"lane": lane}))
    if as_json:
        click.echo(json.dumps(reply))
        return
    name = "no coil" if reply["coil"] is None else f"coil {reply['coil']}"
    if reply["kept_since"] is not None:
        from edge.host.clock import local_date_time, wall_ns_of

        name += f" (started {local_date_time(wall_ns_of(reply['kept_since']))}, before the restart)"
    position = "position unknown" if reply["position_m"] is None else f"at {reply['position_m']:.3f} m"
    speed = "speed " + (reply["speed"] if reply["speed_m_per_s"] is None else f"{reply['speed_m_per_s']:g} m/s")
    echo(f"{name}, {position}, {speed}")
    for each, lane_coil in reply.get("lanes", {}).items():
        echo(f"lane {each}: {'no coil' if lane_coil is None else f'coil {lane_coil}'}")
