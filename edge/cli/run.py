"""run and check: the daemon, and what it would say of its configuration."""

from __future__ import annotations

import faulthandler
import json
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edge.cli.exit_codes import EXIT_CONFIG, EXIT_FAILED, refusals_told
from edge.cli.numeric_threads import one_thread_each
from edge.cli.options import Seconds, config_option, json_option
from edge.errors import BundleError, ConfigError
from edge.host.redact import redact


@click.command()
@config_option
@click.option("--for", "for_s", type=Seconds(), help="End by itself after this time, for example 30s.")
@refusals_told
def run(config_path: Path, for_s: float | None) -> None:
    """Run the daemon. SIGTERM or Ctrl-C ends it with everything handed over."""
    one_thread_each()
    from edge import config
    from edge.control.startup import prepare
    from edge.daemon import Daemon
    from edge.host import logs
    from edge.host.clock import SystemClock
    from edge.host.systemd import Service

    service = Service.from_environment()
    settings = config.load(config_path)
    logs.start(settings.log.level, settings.log.format)
    faulthandler.enable(2)  # stderr: the watchdog's SIGABRT then says in the journal where each thread stood
    clock = SystemClock()
    service.status("starting: the model is loaded and tested")
    sys.exit(Daemon(prepare(settings, clock), clock, config_path, service=service).run(for_s))


@click.command()
@config_option
@json_option
@click.option("--schema", is_flag=True, help="Print a JSON Schema of the file for editors, and end.")
@click.option("--probe", is_flag=True, help="Also open every camera for a moment and take a picture.")
@refusals_told
def check(config_path: Path, as_json: bool, schema: bool, probe: bool) -> None:
    """Check a configuration and its model without starting anything."""
    from edge import config

    if schema:
        click.echo(json.dumps(config.json_schema(), indent=2))
        return
    try:
        findings = _check(config_path, probe=probe)
    except (ConfigError, BundleError) as error:
        if not as_json:
            raise
        problems = [asdict(p) for p in error.problems] if isinstance(error, ConfigError) else []
        click.echo(json.dumps({"ok": False, "error": str(error), "problems": problems}))
        sys.exit(EXIT_CONFIG)
    failed = [camera for camera in findings["cameras"] if camera.get("error")]
    if as_json:
        click.echo(json.dumps({"ok": not failed, **findings}))
    else:
        click.echo(
            f"{config_path}: good. Model {findings['model']} ({findings['network']}), broker {findings['broker']}"
        )
        for camera in findings["cameras"]:
            result = camera.get("error") or camera.get("actual")
            click.echo(f"  {camera['name']}: {camera['source']}" + (f": {result}" if result else ""))
    sys.exit(EXIT_FAILED if failed else 0)


def _check(config_path: Path, *, probe: bool) -> dict[str, Any]:
    from edge import config
    from edge.camera.probe import probe as probe_cameras
    from edge.control.startup import prepare
    from edge.host.clock import SystemClock

    settings = config.load(config_path)
    clock = SystemClock()
    classifier = prepare(settings, clock).classifier
    card = classifier.card
    found = probe_cameras(settings.active_cameras, clock) if probe else {}
    cameras = [
        {
            "name": camera.name,
            "source": redact(camera.source.get_secret_value()),
            **(found[camera.name].as_json() if probe else {}),
        }
        for camera in settings.active_cameras
    ]
    return {
        "model": f"{card.name} {card.version}",
        "network": classifier.network,
        "broker": settings.mqtt.broker,
        "cameras": cameras,
    }


@click.command()
@config_option
@json_option
@refusals_told
def reload(config_path: Path, as_json: bool) -> None:
    """Have the running daemon read its configuration again; says what changed, or why nothing did.

    For `systemctl reload`: exit code 1 when the file is refused, or no daemon runs.
    """
    from edge import config
    from edge.control.unix_socket import ask
    from edge.errors import CommandError

    try:
        state_dir = config.load(config_path).state_dir
    except ConfigError:
        with suppress(CommandError):  # what it would say is what is said here
            ask(config.state_dir_of(config_path), "reload")  # so that it tells those who listen
        raise
    told = ask(state_dir, "reload")
    if told is None:
        raise CommandError("failed", f"no daemon runs on {state_dir}")
    if as_json:
        click.echo(json.dumps(told))
        return
    words = {
        "added": "added",
        "removed": "removed",
        "reopened": "started again",
        "looked_at": "looked at otherwise",
        "thresholds": "other thresholds",
        "needs_restart": "waits for a restart of the service",
    }
    said = [f"{words[key]}: {', '.join(told[key])}" for key in words if told[key]]
    click.echo("\n".join(said) or "nothing is different")
