"""doctor: examines this node."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from edge.cli.exit_codes import EXIT_FAILED, exits_with_reason
from edge.cli.options import config_option, json_option
from edge.cli.progress import echo


@click.command(short_help="Examine this node, with a remedy for each fault.")
@config_option
@json_option
@click.option("--no-cameras", is_flag=True, help="Do not open the cameras.")
@click.option("--live", is_flag=True, help="Only ask the running daemon whether its loops move: a health check.")
@exits_with_reason
def doctor(config_path: Path, as_json: bool, no_cameras: bool, live: bool) -> None:
    """Examine this node: model, disk, memory, clock, heat, certificates, broker, outputs, cameras, calibrations.

    Each finding is OK, WARNING or FAIL, and has a remedy unless it is OK. Exit code 1 when one is FAIL.

    \b
    Examples:
      defectd doctor
      defectd doctor --no-cameras --json
    """
    from edge import config

    settings = config.load(config_path)
    if live:
        from edge.monitoring.health_check import check

        health = check(settings)
        click.echo(json.dumps(asdict(health)) if as_json else health.says)
        sys.exit(0 if health.alive else EXIT_FAILED)
    from edge.host.clock import SystemClock
    from edge.monitoring.doctor import examine

    failed = False
    for finding in examine(settings, SystemClock(), open_cameras=not no_cameras):
        failed = failed or finding.grade == "fail"
        if as_json:
            click.echo(json.dumps(asdict(finding)))
        else:
            remedy = f"\n         -> {finding.remedy}" if finding.remedy else ""
            echo(f"{finding.grade.upper():8} {finding.about}: {finding.says}{remedy}")
    sys.exit(EXIT_FAILED if failed else 0)
