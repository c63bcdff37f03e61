"""model: bundles looked at, signed, installed, and taken back."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edge.cli.exit_codes import refusals_told
from edge.cli.numeric_threads import one_thread_each
from edge.cli.options import config_option, json_option


@click.group()
def model() -> None:
    """Model bundles."""


@model.command()
@click.argument("bundle_path", metavar="BUNDLE", default="builtin")
@json_option
@refusals_told
def show(bundle_path: str, as_json: bool) -> None:
    """What a bundle says of itself."""
    from edge.model import bundle

    card = bundle.load(bundle_path).card.model_dump(mode="json", by_alias=True, exclude={"selftest", "variants"})
    click.echo(json.dumps(card) if as_json else json.dumps(card, indent=2))


@model.command()
@click.argument("bundle_path", metavar="BUNDLE", default="builtin")
@refusals_told
def verify(bundle_path: str) -> None:
    """Check a bundle's hashes and run its self-test on this processor."""
    from edge.model import bundle
    from edge.model.classifier import Classifier

    loaded = bundle.load(bundle_path)
    for network in loaded.networks:
        Classifier(loaded, network=network).selftest()
    networks = ", ".join(loaded.networks)
    click.echo(f"{loaded.origin}: {loaded.card.name} {loaded.card.version}: {networks}: good")


@model.command()
@click.argument("key_file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@refusals_told
def keygen(key_file: Path) -> None:
    """Make a key to sign bundles with: the private one into FILE (mode 0600), the public one printed.

    The printed line goes into `model.trusted_keys` of every box; FILE stays with whoever releases models.
    """
    from edge.model.signature import keygen as make

    click.echo(make(key_file))


@model.command()
@click.argument("bundle_path", metavar="BUNDLE", type=click.Path(exists=True, path_type=Path))
@click.option("--key", "key_file", required=True, type=click.Path(path_type=Path), help="The private key.")
@refusals_told
def sign(bundle_path: Path, key_file: Path) -> None:
    """Sign a bundle, a directory or a zip: card.sig is put into it."""
    from edge.model import bundle, signature

    loaded = bundle.load(bundle_path)
    bundle.attach_signature(bundle_path, signature.sign(loaded.card_bytes, key_file))
    click.echo(f"{bundle_path}: {loaded.card.name} {loaded.card.version} ({loaded.digest[:12]}): signed")


@model.command()
@click.argument("where", metavar="FILE|URL")
@config_option
@json_option
@click.option("--allow-unsigned", is_flag=True, help="Take a bundle that nobody has signed.")
@click.option("--no-use", is_flag=True, help="Keep it on the box, but do not let it decide.")
@refusals_told
def install(where: str, config_path: Path, as_json: bool, allow_unsigned: bool, no_use: bool) -> None:
    """Check a bundle and let it decide: signature, self-test, classes, time; then it is watched.

    A running daemon swaps it in between two frames and goes back by itself when it does worse than the one before.
    Without a daemon it decides from the next start on. Nothing is changed when the bundle is refused.
    """
    one_thread_each()
    from edge import config
    from edge.control.model_rollout import install as put
    from edge.host.clock import SystemClock
    from edge.model.store import Store

    settings = config.load(config_path)
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = put(where, settings.model, Store(settings.state_dir), SystemClock(), allow_unsigned=allow_unsigned)
    if no_use:
        _say({"digest": digest, "changed": False}, f"installed: {digest}", as_json=as_json)
    else:
        _use(settings, digest, as_json=as_json)


@model.command()
@click.argument("digest")
@config_option
@json_option
@refusals_told
def use(digest: str, config_path: Path, as_json: bool) -> None:
    """Let an installed bundle decide; the beginning of its digest will do."""
    one_thread_each()
    from edge import config
    from edge.model.store import Store

    settings = config.load(config_path)
    _use(settings, Store(settings.state_dir).find(digest), as_json=as_json)


@model.command()
@config_option
@json_option
@refusals_told
def rollback(config_path: Path, as_json: bool) -> None:
    """Let the model before this one decide again."""
    one_thread_each()
    from edge import config
    from edge.control.startup import roll_back_from_next_start
    from edge.control.unix_socket import ask
    from edge.errors import CommandError
    from edge.host.clock import SystemClock

    settings = config.load(config_path)
    told = ask(settings.state_dir, "model", action="rollback")
    if told is None:
        standing = roll_back_from_next_start(settings, SystemClock())
        if standing is None:
            raise CommandError("failed", "the model of the configuration is in use: there is none to go back to")
        told = {"changed": True, "current": standing.current}
        _say(told, f"from the next start on: {_named(standing.current)}", as_json=as_json)
    else:
        _say(told, f"decides again: {_title(told['to'])}", as_json=as_json)


@model.command("list")
@config_option
@json_option
@refusals_told
def list_models(config_path: Path, as_json: bool) -> None:
    """What is installed, which one decides, which was rolled back and why."""
    from edge import config
    from edge.model.store import Store

    settings = config.load(config_path)
    store = Store(settings.state_dir)
    standing = store.standing(settings.model.bundle)
    marks = {standing.previous: "previous", standing.current: "on trial" if standing.on_trial else "in use"}
    for stored in store.list():
        mark = marks.get(stored.digest, "rejected" if stored.digest in standing.rejected else "")
        if as_json:
            told = {**asdict(stored), "path": str(stored.path), "mark": mark or None}
            click.echo(json.dumps({**told, "why": standing.rejected.get(stored.digest)}))
        else:
            why = f": {standing.rejected[stored.digest]}" if mark == "rejected" else ""
            title = f"{stored.name} {stored.version}"
            click.echo(f"{stored.digest[:12]}  {stored.installed}  {title:24} {mark}{why}")
    if not as_json:
        mark = marks.get("configured", "")
        click.echo(f"configured    {settings.model.bundle:24}  {mark}")


def _use(settings: Any, digest: str, *, as_json: bool) -> None:
    from edge.control.startup import use_from_next_start
    from edge.control.unix_socket import ask
    from edge.host.clock import SystemClock

    told = ask(settings.state_dir, "model", action="use", digest=digest)
    if told is None:
        use_from_next_start(settings, digest, SystemClock())
        _say({"digest": digest, "changed": True}, f"from the next start on: {digest}", as_json=as_json)
    elif told["changed"]:
        words = f"decides: {_title(told['to'])}, on trial for {told['canary_s']:g} s"
        _say({"digest": digest, **told}, words, as_json=as_json)
    else:
        _say({"digest": digest, **told}, f"decides already: {_title(told['model'])}", as_json=as_json)


def _say(told: dict[str, Any], words: str, *, as_json: bool) -> None:
    click.echo(json.dumps(told) if as_json else words)


def _title(identity: dict[str, str]) -> str:
    return f"{identity['name']} {identity['version']} ({identity['bundle'][:12]})"


def _named(current: str) -> str:
    return "the model of the configuration" if current == "configured" else current
