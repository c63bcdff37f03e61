"""run, check and reload: the daemon, a check of its configuration, and a request to read it again."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from edge.cli.exit_codes import EXIT_CONFIG, EXIT_FAILED, exits_with_reason
from edge.cli.numeric_threads import one_thread_each
from edge.cli.options import Seconds, config_option, json_option
from edge.cli.progress import echo, note
from edge.errors import BundleError, ConfigError
from edge.host.url import public_url

if TYPE_CHECKING:
    from edge.host.clock import Clock


@click.command()
@config_option
@click.option("--for", "for_s", type=Seconds(), help="Stop after this time, for example 30s.")
@click.option("--plain", is_flag=True, help="Only log lines, also on a terminal.")
@exits_with_reason
def run(config_path: Path, for_s: float | None, plain: bool) -> None:
    """Run the daemon. SIGTERM or Ctrl-C stops it after every event is delivered or stored.

    On a terminal the last lines show the node live, with defects as they come above; piped into a file or a program,
    the output is the log alone, and under systemd it is JSON.

    \b
    Examples:
      defectd run
      defectd run -c line3.yaml --for 1h
    """
    one_thread_each()
    from edge import config
    from edge.cli import terminal
    from edge.control.startup import prepare
    from edge.daemon import Daemon
    from edge.host import logs
    from edge.host.clock import SystemClock
    from edge.host.systemd import Service

    service = Service.from_environment()
    settings = config.load(config_path)
    logs.start(settings.log.level, settings.log.format)
    faulthandler.enable(2)  # stderr: on the watchdog's SIGABRT the journal gets the stack of each thread
    clock = SystemClock()
    service.status("starting: loading and testing the model")
    with ExitStack() as shown:
        say: Callable[[str], None] | None = note if sys.stderr.isatty() else None
        if not plain and settings.log.format == "auto" and terminal.is_wanted():
            live = terminal.LiveTerminal(settings.state.page_socket, settings.log.level)
            say = shown.enter_context(live).say
        on_link = _ignore if say is None else _link_printer(settings.state.web, clock, say)
        code = Daemon(prepare(settings, clock), clock, config_path, service=service, on_link=on_link).run(for_s)
    _leave(code)


def _ignore(_link: str) -> None:
    """Nobody sits at a terminal."""


def _link_printer(web_dir: Path, clock: Clock, say: Callable[[str], None]) -> Callable[[str], None]:
    """Prints where the page is served: who starts the daemon by hand may open it as engineer, once."""

    def show(link: str) -> None:
        from edge.web import entry_links

        with suppress(OSError):  # a full disk: the page then opens for those who only look
            link = f"{link}enter?token={entry_links.create(web_dir, clock.wall_ns())}"
        say(f"\n  Open the page: {link}\n")

    return show


def _leave(code: int) -> NoReturn:
    """End the process. A thread that was left behind may be in native code: the end of the interpreter aborts there."""
    if threading.active_count() > 1:
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


@click.command(short_help="Check a configuration and its model.")
@config_option
@json_option
@click.option("--schema", is_flag=True, help="Print a JSON Schema of the file, for editors, and exit.")
@click.option("--probe", is_flag=True, help="Also try every camera and the broker.")
@exits_with_reason
def check(config_path: Path, as_json: bool, schema: bool, probe: bool) -> None:
    """Check a configuration and its model without starting anything.

    With --probe also open every camera, connect to the broker with the node's credentials, and publish one empty
    message on PREFIX/NODE/doctor, which no subscriber of states or events receives. Exit code 1 when one of them fails.

    \b
    Examples:
      defectd check -c line3.yaml --probe
    """
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
    failed = [camera["name"] for camera in findings["cameras"] if camera.get("error")]
    if findings.get("broker_probe", {}).get("grade") == "fail":
        failed.append("broker")
    if as_json:
        click.echo(json.dumps({"ok": not failed, **findings}))
    else:
        _print_check(config_path, findings, failed)
    sys.exit(EXIT_FAILED if failed else 0)


def _print_check(config_path: Path, findings: dict[str, Any], failed: list[str]) -> None:
    """What was tried, one line each; the verdict comes last."""
    for camera in findings["cameras"]:
        probed = ""
        if camera.get("error"):
            probed = f": FAIL: {camera['error']}"
        elif camera.get("actual"):
            probed = f": OK: {camera['actual']}"
        echo(f"  {camera['name']}: {camera['source']}{probed}")
    tried = findings.get("broker_probe")
    if tried is not None:
        remedy = f" -> {tried['remedy']}" if tried["remedy"] else ""
        echo(f"  broker: {tried['grade'].upper()}: {tried['says']}{remedy}")
    verdict = f"FAIL ({', '.join(failed)})" if failed else "OK"
    echo(f"{config_path}: {verdict}. Model {findings['model']} ({findings['network']}), broker {findings['broker']}")


def _check(config_path: Path, *, probe: bool) -> dict[str, Any]:
    from edge import config
    from edge.camera.probe import probe as probe_cameras
    from edge.control.startup import prepare
    from edge.host.clock import SystemClock
    from edge.monitoring.doctor import broker

    settings = config.load(config_path)
    config.require_secrets(settings, str(config_path))
    clock = SystemClock()
    prepared = prepare(settings, clock)
    classifier = prepared.classifier
    card = classifier.card
    found = probe_cameras(settings.active_cameras, clock, prepared.picture_fault) if probe else {}
    cameras = [
        {
            "name": camera.name,
            "source": public_url(camera.source.get_secret_value()),
            **(found[camera.name].as_json() if probe else {}),
        }
        for camera in settings.active_cameras
    ]
    tried = broker.finding(settings, clock) if probe else None
    return {
        "model": f"{card.name} {card.version}",
        "network": classifier.network,
        "broker": settings.mqtt.broker,
        "cameras": cameras,
        **(
            {} if tried is None else {"broker_probe": {key: getattr(tried, key) for key in ("grade", "says", "remedy")}}
        ),
    }


@click.command(short_help="Make the daemon read its configuration again.")
@config_option
@json_option
@exits_with_reason
def reload(config_path: Path, as_json: bool) -> None:
    """Make the running daemon read its configuration again; print what changed, or why nothing did.

    For `systemctl reload`: the exit code is not 0 when the file is refused, or no daemon runs.

    \b
    Examples:
      defectd reload
    """
    from edge import config
    from edge.control.unix_socket import ask
    from edge.errors import CommandError

    try:
        state_dir = config.load(config_path).state_dir
    except ConfigError:
        with suppress(CommandError):  # its reason is the one that is raised here
            ask(config.state_dir_of(config_path), "reload")  # so that its event reports the refusal
        raise
    reply = ask(state_dir, "reload")
    if reply is None:
        raise CommandError("failed", f"no daemon runs on {state_dir}")
    if as_json:
        click.echo(json.dumps(reply))
        return
    words = {
        "added": "added",
        "removed": "removed",
        "reopened": "reopened",
        "looked_at": "inspected differently",
        "thresholds": "new thresholds",
        "settings": "changed",
        "needs_restart": "takes effect at the next restart of the service",
    }
    lines = [f"{words[key]}: {', '.join(reply[key])}" for key in words if reply[key]]
    click.echo("\n".join(lines) or "nothing changed")
