"""fleet: every node at the broker, on one screen."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from edge.cli.exit_codes import EXIT_FAILED, exits_with_reason
from edge.cli.options import Seconds, config_option, json_option
from edge.cli.progress import echo, note

CONNECT_S: Final = 10.0
WORDS: Final = {"offline": "OFFLINE", "not_inspecting": "NOT INSPECTING", "degraded": "degraded"}
COLUMNS: Final = "{:16} {:15} {:>8} {:>9} {:12} {:>9} {:10} {}"


@click.command(short_help="Every node at the broker: state, coil, worst finding.")
@config_option
@json_option
@click.option("--wait", "wait_s", type=Seconds(), default="2s", show_default=True, help="How long to listen.")
@exits_with_reason
def fleet(config_path: Path, as_json: bool, wait_s: float) -> None:
    """Show every node that publishes below mqtt.topic_prefix at this node's broker, the worst first.

    \b
    Example:  defectd fleet -c /etc/defectd/config.yaml

    Reads what the nodes retain there; it needs no daemon on this machine. Exit code 0 while all nodes inspect, 1 when
    one does not, or when the broker was not reached.
    """
    from edge import config
    from edge.host.clock import SystemClock

    settings = config.load(config_path)
    found = _heard(settings.mqtt, wait_s)
    if found is None:
        note("the broker was not reached")
        sys.exit(EXIT_FAILED)
    answer = found.as_json(SystemClock().wall_ns())
    if as_json:
        click.echo(json.dumps(answer))
        return
    for line in _table(answer["nodes"]):
        echo(line)
    sys.exit(0 if all(node["verdict"] == "inspecting" for node in answer["nodes"]) else EXIT_FAILED)


def _heard(mqtt: Any, wait_s: float) -> Any:
    """What is retained at the broker, and what comes within that time; None when it was not reached."""
    import secrets
    import threading

    from edge.delivery.fleet import Fleet
    from edge.delivery.mqtt.listener import listen

    found, over, is_connected = Fleet(mqtt.topic_prefix), threading.Event(), threading.Event()
    timer = threading.Timer(CONNECT_S, over.set)
    timer.daemon = True
    last = threading.Timer(wait_s, over.set)
    last.daemon = True

    def connected() -> None:
        if not is_connected.is_set():
            is_connected.set()
            timer.cancel()
            last.start()

    timer.start()
    name = f"defectd-fleet-{secrets.token_hex(4)}"
    try:
        for message in listen(
            mqtt, found.filters, client_id=name, stopped=over, on_state=lambda _: None, on_connected=connected
        ):
            found.take(message.topic, message.payload)
    finally:
        timer.cancel()
        last.cancel()
    return found if is_connected.is_set() else None


def _table(nodes: list[Mapping[str, Any]]) -> Iterator[str]:
    if not nodes:
        yield "no node publishes at this broker"
        return
    yield COLUMNS.format("node", "", "cameras", "inspected", "coil", "place", "heard", "")
    for node in nodes:
        running = sum(camera["state"] == "running" for camera in node["cameras"])
        share, place, age_s = node["inspected"], node["position_m"], node["age_s"]
        yield COLUMNS.format(
            node["node"][:16],
            WORDS.get(node["verdict"], node["verdict"]),
            f"{running} of {len(node['cameras'])}",
            "" if share is None else f"{share:.1%}",
            (node["coil"] or "")[:12],
            "" if place is None else f"{place:.1f} m",
            "" if age_s is None else _ago(age_s),
            "; ".join(node["reasons"][:2]),
        ).rstrip()


def _ago(age_s: float) -> str:
    for limit_s, unit_s, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if age_s < limit_s:
            return f"{age_s / unit_s:.0f} {unit} ago"
    return f"{age_s / 86_400:.0f} days ago"
