"""model: bundles, looked at and checked."""

from __future__ import annotations

import json

import click

from edge.cli.options import json_option
from edge.cli.refusal import refusals_told


@click.group()
def model() -> None:
    """Model bundles."""


@model.command()
@click.argument("bundle_path", metavar="BUNDLE", default="builtin")
@json_option
@refusals_told
def show(bundle_path: str, as_json: bool) -> None:
    """What a bundle says of itself."""
    from edge import bundle

    card = bundle.load(bundle_path).card.model_dump(mode="json", by_alias=True, exclude={"selftest", "variants"})
    click.echo(json.dumps(card) if as_json else json.dumps(card, indent=2))


@model.command()
@click.argument("bundle_path", metavar="BUNDLE", default="builtin")
@refusals_told
def verify(bundle_path: str) -> None:
    """Check a bundle's hashes and run its self-test on this processor."""
    from edge import bundle
    from edge.vision.classifier import Classifier

    loaded = bundle.load(bundle_path)
    for network in loaded.networks:
        Classifier(loaded, network=network).selftest()
    networks = ", ".join(loaded.networks)
    click.echo(f"{loaded.origin}: {loaded.card.name} {loaded.card.version}: {networks}: good")
