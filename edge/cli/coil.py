"""coil: which coil the running node inspects."""

from __future__ import annotations

import json
from typing import Any

import click

from edge.cli.exit_codes import refusals_told
from edge.cli.options import config_option, json_option


@click.group()
def coil() -> None:
    """The coil on the line: positions count from its begin.

    \b
    defectd coil start A4711    it begins now, at 0 m
    defectd coil show           how it stands
    defectd coil stop           it is over; positions are unknown until the next one
    """


@coil.command()
@config_option
@json_option
@click.argument("name")
@refusals_told
def start(config_path: Any, as_json: bool, name: str) -> None:
    """A coil begins now, at 0 m. Where one runs, it ends."""
    _order(config_path, as_json, action="start", coil=name)


@coil.command()
@config_option
@json_option
@refusals_told
def stop(config_path: Any, as_json: bool) -> None:
    """The coil is over."""
    _order(config_path, as_json, action="stop")


@coil.command()
@config_option
@json_option
@refusals_told
def show(config_path: Any, as_json: bool) -> None:
    """The coil, its position and the speed of the strip."""
    _order(config_path, as_json, action="show")


def _order(config_path: Any, as_json: bool, **fields: Any) -> None:
    from edge import config
    from edge.control.unix_socket import ask
    from edge.errors import CommandError

    state_dir = config.load(config_path).state_dir
    told = ask(state_dir, "coil", **fields)
    if told is None:
        raise CommandError("failed", f"no daemon runs on {state_dir}")
    if as_json:
        click.echo(json.dumps(told))
        return
    name = "no coil" if told["coil"] is None else f"coil {told['coil']}"
    if told["kept_since"] is not None:
        name += f" (begun {told['kept_since']}, before the restart)"
    position = "position unknown" if told["position_m"] is None else f"at {told['position_m']:.3f} m"
    speed = "speed " + (told["speed"] if told["speed_m_per_s"] is None else f"{told['speed_m_per_s']:g} m/s")
    click.echo(f"{name}, {position}, {speed}")
