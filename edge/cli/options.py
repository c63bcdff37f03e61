"""Options that several commands take: the configuration, --json, durations."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import click

P = ParamSpec("P")
R = TypeVar("R")


def config_option(command: Callable[P, R]) -> Callable[P, R]:
    return click.option(
        "-c",
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        default=Path("config.yaml"),
        show_default=True,
        help="The configuration file.",
    )(command)


def json_option(command: Callable[P, R]) -> Callable[P, R]:
    return click.option("--json", "as_json", is_flag=True, help="One JSON object per line, for scripts.")(command)


def since_option(command: Callable[P, R]) -> Callable[P, R]:
    return click.option("--since", help="Only from this time on: 10m or 2h ago, or 2026-11-22T13:00:00Z.")(command)


class Number(click.FloatRange):
    """A number within bounds.  click accepts `nan`, which is neither below nor above a bound."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


class Seconds(click.ParamType[float]):
    """30, 30s, 5m, 2h, 1d -> seconds."""

    name = "duration"
    units: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        unit = self.units.get(text[-1:], None)
        try:
            seconds = float(text if unit is None else text[:-1]) * (unit or 1)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < 1e9:
            self.fail(f"{value!r} is not a duration; write for example 30s, 5m or 2h", param, ctx)
        return seconds


def since_wall_ns(text: str | None) -> int:
    """The time that `--since` names: a moment, or a duration before now.  Raises click.BadParameter."""
    from edge.host.clock import NS_PER_S, SystemClock

    if text is None:
        return 0
    try:
        moment = datetime.fromisoformat(text)
        return int(moment.astimezone(UTC).timestamp() * NS_PER_S)
    except ValueError:
        return SystemClock().wall_ns() - int(Seconds().convert(text, None, None) * NS_PER_S)
