"""The command line: the only package that prints.  Libraries are imported where a command needs them."""

from __future__ import annotations

import logging
import re
from typing import Any, Final

import click

from edge import __version__
from edge.cli import (
    bench,
    calibrate,
    coil,
    completion,
    doctor,
    events,
    evidence,
    fleet,
    init,
    inspect,
    model,
    run,
    status,
    support,
    web,
)

_EXTRA: Final = re.compile(r"Got unexpected extra arguments? \((\S+).*\)", re.DOTALL)


class Main(click.Group):
    """The command `defectd`."""

    def invoke(self, ctx: click.Context) -> Any:
        """Name one unexpected argument, not pages of them, and the option that a configuration file belongs to."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            extra = _EXTRA.fullmatch(error.message)
            if extra is None:
                raise
            word = extra[1]
            remedy = f" Write: -c {word}" if word.endswith((".yaml", ".yml")) else ""
            raise click.UsageError(f"unexpected: {word}.{remedy}", error.ctx) from None


@click.group(cls=Main, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="defectd")
def main() -> None:
    """Inspect the surface of moving steel: cameras in, defect events out over MQTT.

    \b
    Try it without a camera:   defectd run -c config.yaml
    and in a second terminal:  defectd tail
    """
    logging.getLogger("edge").addHandler(logging.NullHandler())  # only `run` sets up a log; the others print


for _command in (
    init.init,
    run.run,
    run.check,
    status.status,
    status.snapshot,
    run.reload,
    coil.coil,
    inspect.inspect,
    events.tail,
    events.events,
    events.dead_letters,
    evidence.evidence,
    fleet.fleet,
    calibrate.calibrate,
    bench.bench,
    doctor.doctor,
    support.support_bundle,
    model.model,
    web.web,
    completion.completion,
):
    main.add_command(_command)
