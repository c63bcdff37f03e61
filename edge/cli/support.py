"""support-bundle: one file for the person who helps."""

from __future__ import annotations

from pathlib import Path

import click

from edge.cli.exit_codes import exits_with_reason
from edge.cli.options import config_option
from edge.cli.progress import note


@click.command("support-bundle", short_help="Pack what a supporter needs, without secrets.")
@config_option
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="The archive [default: named by the time]."
)
@click.option(
    "--log",
    "logs",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="A log file to add, where the journal is not used. Can be given several times.",
)
@exits_with_reason
def support_bundle(config_path: Path, output: Path | None, logs: tuple[Path, ...]) -> None:
    """Pack logs, configuration, metrics, versions and the doctor's findings into a tar.gz, without secrets.

    For the person who helps you with this node. Only you can read the file; look through it before you send it.

    \b
    Examples:
      defectd support-bundle -o line3.tar.gz
    """
    from edge.host.clock import SystemClock, stamp
    from edge.monitoring.support_bundle import pack

    clock = SystemClock()
    if output is None:
        output = Path(f"defectd-support-{stamp(clock.wall_ns())[:19].replace(':', '')}Z.tar.gz")
    try:
        outcome = pack(output, config_path, clock, logs)
    except OSError as error:
        raise click.ClickException(f"{output}: {error.strerror or error}") from None
    for name, remark in outcome.items():
        note(f"  {name:24} {remark or 'included'}")
    note("passwords, keys and credentials in URLs were removed; look through it before you send it")
    click.echo(output)
