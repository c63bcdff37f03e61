"""The command line: the only package that prints.  Libraries are imported where a command needs them."""

from __future__ import annotations

import logging

import click

from edge import __version__
from edge.cli import (
    bench,
    calibrate,
    coil,
    doctor,
    events,
    evidence,
    inspect,
    model,
    run,
    support,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="defectd")
def main() -> None:
    """Inspect the surface of moving steel: cameras in, defect events out over MQTT.

    \b
    Try it without a camera:   defectd run -c config.yaml
    and in a second terminal:  defectd tail
    """
    logging.getLogger("edge").addHandler(logging.NullHandler())  # only `run` sets up a log; the others print


for _command in (
    run.run,
    run.check,
    run.reload,
    coil.coil,
    inspect.inspect,
    events.tail,
    events.events,
    events.dead_letters,
    evidence.evidence,
    calibrate.calibrate,
    bench.bench,
    doctor.doctor,
    support.support_bundle,
    model.model,
):
    main.add_command(_command)
