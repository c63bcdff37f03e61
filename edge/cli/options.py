"""Options that several commands take: the configuration, --json, durations."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import click

P = ParamSpec("P")
R = TypeVar("R")


_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([smhd])")
CONFIG_NAME: Final = "config.yaml"
SYSTEM_FOLDER: Final = Path("/etc/defectd")


def config_option(command: Callable[P, R]) -> Callable[P, R]:
    return click.option(
        "-c",
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        callback=lambda _context, _option, path: found_config(path),
        help=f"The configuration file  [default: {CONFIG_NAME} here, or in {SYSTEM_FOLDER}].",
    )(command)


def found_config(path: Path | None, system_folder: Path = SYSTEM_FOLDER) -> Path:
    """The file that was named; without one, the first that is there: here, or where the installer puts it.

    Where neither is there, the name of the one here: reading it gives the error.
    """
    if path is not None:
        return path
    here, installed = Path(CONFIG_NAME), system_folder / CONFIG_NAME
    if here.exists() or not _may_be_there(installed):
        return here
    click.echo(f"using {installed}", err=True)
    return installed


def _may_be_there(path: Path) -> bool:
    """False only where the file is known to be absent: one that may not be read must be named in the error."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


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
    """30, 30s, 5m, 2h, 1d, 1h30m -> seconds."""

    name = "duration"
    units: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        if text[-1:] not in self.units:
            text += "s"
        parts = _PART.findall(text)
        is_whole = "".join(number + unit for number, unit in parts) == text
        seconds = sum(float(number) * self.units[unit] for number, unit in parts) if is_whole else -1.0
        if not 0 < seconds < 1e9:
            self.fail(f"{value!r} is not a duration; write for example 30s, 5m or 1h30m", param, ctx)
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
