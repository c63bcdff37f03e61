"""model: show, sign, import, install and roll back bundles."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from edge.cli import table
from edge.cli.exit_codes import exits_with_reason
from edge.cli.numeric_threads import one_thread_each
from edge.cli.options import config_option, json_option
from edge.cli.progress import echo
from edge.cli.table import Cell, Column

ON_TRIAL: Final = "on trial"
"""Of a canary, in the JSON output."""
WORDS: Final = {ON_TRIAL: "canary"}
"""For people."""
STYLES: Final = {ON_TRIAL: "yellow", "in use": "green", "rejected": "bold red"}
COLUMNS: Final = (
    Column("digest"),
    Column("installed"),
    Column("model", folds=True),
    Column("state"),
    Column("why", folds=True),
)


@click.group()
def model() -> None:
    """Show, sign, import, install and roll back model bundles.

    \b
    Examples:
      defectd model list
      defectd model install student-0.2.0.zip
      defectd model rollback
    """


@model.command(short_help="Print the card of a bundle: classes, inputs, figures.")
@click.argument("bundle_path", metavar="BUNDLE", default="builtin")
@json_option
@exits_with_reason
def show(bundle_path: str, as_json: bool) -> None:
    """Print the card of a bundle: classes, inputs, how it was trained and measured.

    \b
    Examples:
      defectd model show student-0.2.0.zip
    """
    from edge.model import bundle

    card = bundle.load(bundle_path).card.model_dump(
        mode="json", by_alias=True, exclude={"selftest", "variants", "surface"}
    )
    click.echo(json.dumps(card) if as_json else json.dumps(card, indent=2))


@model.command(short_help="Check a bundle, and run its self-test here.")
@click.argument("bundle_path", metavar="BUNDLE", default="builtin")
@exits_with_reason
def verify(bundle_path: str) -> None:
    """Check a bundle's hashes and run its self-test on this processor.

    \b
    Examples:
      defectd model verify student-0.2.0.zip
    """
    from edge.model import bundle
    from edge.model.classifier import Classifier

    loaded = bundle.load(bundle_path)
    for network in loaded.networks:
        Classifier(loaded, network=network).selftest()
    networks = ", ".join(loaded.networks)
    echo(f"{loaded.origin}: {loaded.card.name} {loaded.card.version}: {networks}: OK")


@model.command(short_help="Make a key to sign bundles with.")
@click.argument("key_file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@exits_with_reason
def keygen(key_file: Path) -> None:
    """Make a key to sign bundles with: write the private key to FILE (mode 0600), print the public key.

    Put the printed line into `model.trusted_keys` of every node; keep FILE where models are released.

    \b
    Examples:
      defectd model keygen release.key
    """
    from edge.model.signature import keygen as make

    click.echo(make(key_file))


@model.command()
@click.argument("bundle_path", metavar="BUNDLE", type=click.Path(exists=True, path_type=Path))
@click.option("--key", "key_file", required=True, type=click.Path(path_type=Path), help="The private key.")
@exits_with_reason
def sign(bundle_path: Path, key_file: Path) -> None:
    """Sign a bundle, a directory or a zip: adds card.sig to it.

    \b
    Examples:
      defectd model sign student-0.2.0.zip --key release.key
    """
    from edge.model import bundle, signature

    loaded = bundle.load(bundle_path)
    bundle.attach_signature(bundle_path, signature.sign(loaded.card_bytes, key_file))
    echo(f"{bundle_path}: {loaded.card.name} {loaded.card.version} ({loaded.digest[:12]}): signed")


@model.command("import", short_help="Make a bundle of somebody else's classifier (ONNX).")
@click.argument("where", metavar="FOLDER|hf://OWNER/NAME|FILE.onnx")
@click.option("--config", "config_file", type=click.Path(dir_okay=False, path_type=Path), help="Its config.json.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="The bundle: NAME.zip or a folder.")
@click.option("--size", "img_size", type=click.IntRange(1, 1024), help="Side of the pictures that it takes, px.")
@click.option("--mean", help="Of the values from 0 to 1: one number, or three with commas.")
@click.option("--std", help="The same.")
@click.option("--classes", "class_names", help="Names in the order of its scores, with commas.")
@click.option("--gray/--rgb", default=None, help="Channels, where the file leaves them open.")
@click.option("--good", help="Class that means no defect; `none`.  [default: one called good or normal]")
@click.option(
    "--tile-px", type=click.IntRange(1), help="Side of a tile at the scale it was trained at.  [default: size]"
)
@click.option("--name", help="Name of the model.")
@json_option
@exits_with_reason
def import_(
    where: str,
    config_file: Path | None,
    out: Path | None,
    img_size: int | None,
    mean: str | None,
    std: str | None,
    class_names: str | None,
    gray: bool | None,
    good: str | None,
    tile_px: int | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Make a bundle of somebody else's image classifier (ONNX), so that the daemon can run it.

    Options override config.json. The bundle is not signed: sign it, or install it with --allow-unsigned.

    \b
    Examples:
      defectd model import hf://OWNER/NAME -o theirs.zip
      defectd model import net.onnx --size 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --classes a,b,c
    """
    one_thread_each()
    from dataclasses import replace

    from edge.host.clock import SystemClock
    from edge.model import bundle, imported

    source = imported.read(where, config_file, SystemClock())
    channels = None if gray is None else 1 if gray else 3
    settings = source.settings.overridden(
        img_size=img_size, mean=_numbers("--mean", mean), std=_numbers("--std", std), channels=channels, good=good,
        class_names=tuple(map(str.strip, class_names.split(","))) if class_names else None, tile_px=tile_px, name=name,
    )  # fmt: skip
    made = imported.bundle_of(replace(source, settings=settings))
    card = made.bundle.card
    target = out or Path(f"{card.name.rsplit('/', maxsplit=1)[-1]}.zip")
    bundle.save(made.bundle, target)
    for note in made.notes:
        click.echo(f"note: {note}", err=True)
    values = {"bundle": str(target), "name": card.name, "classes": card.classes, "notes": made.notes}
    _echo(values, f"{target}: {card.name} {card.version}, classes {', '.join(card.classes)}", as_json=as_json)


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(map(float, text.split(",")))
    except ValueError:
        raise click.BadParameter(f"{text!r}: give one number, or three with commas", param_hint=option) from None


@model.command(short_help="Install a bundle and use it, after checks.")
@click.argument("where", metavar="FILE|URL|hf://OWNER/NAME")
@config_option
@json_option
@click.option("--allow-unsigned", is_flag=True, help="Accept an unsigned bundle.")
@click.option("--no-use", is_flag=True, help="Install it on this machine, but do not use it.")
@exits_with_reason
def install(where: str, config_path: Path, as_json: bool, allow_unsigned: bool, no_use: bool) -> None:
    """Install a bundle and use it, after checks of its signature, self-test, classes and speed.

    A running daemon swaps it in between two frames as a canary, and rolls back by itself when it does worse than the
    previous model. Without a running daemon it is used from the next start on. A refused bundle changes nothing.

    \b
    Examples:
      defectd model install student-0.2.0.zip
    """
    one_thread_each()
    from edge import config
    from edge.control.model_rollout import install as install_bundle
    from edge.host.clock import SystemClock
    from edge.model.store import Store

    settings = config.load(config_path)
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = install_bundle(
        where, settings.model, Store(settings.state_dir), SystemClock(), allow_unsigned=allow_unsigned
    )
    if no_use:
        _echo({"digest": digest, "changed": False}, f"installed: {digest}", as_json=as_json)
    else:
        _use(settings, digest, as_json=as_json)


@model.command(short_help="Use an installed bundle.")
@click.argument("digest")
@config_option
@json_option
@exits_with_reason
def use(digest: str, config_path: Path, as_json: bool) -> None:
    """Use an installed bundle; the first characters of its digest are enough.

    \b
    Examples:
      defectd model use 3f2a9c
    """
    one_thread_each()
    from edge import config
    from edge.model.store import Store

    settings = config.load(config_path)
    _use(settings, Store(settings.state_dir).find(digest), as_json=as_json)


@model.command()
@config_option
@json_option
@exits_with_reason
def rollback(config_path: Path, as_json: bool) -> None:
    """Go back to the previous model.

    \b
    Examples:
      defectd model rollback
    """
    one_thread_each()
    from edge import config
    from edge.control.startup import roll_back_from_next_start
    from edge.control.unix_socket import ask
    from edge.errors import CommandError
    from edge.host.clock import SystemClock

    settings = config.load(config_path)
    reply = ask(settings.state_dir, "model", action="rollback")
    if reply is None:
        active = roll_back_from_next_start(settings, SystemClock())
        if active is None:
            raise CommandError("failed", "the model of the configuration is in use: there is none to go back to")
        reply = {"changed": True, "current": active.current}
        _echo(reply, f"from the next start on: {_named(active.current)}", as_json=as_json)
    else:
        _echo(reply, f"in use again: {_title(reply['to'])}", as_json=as_json)


@model.command("list", short_help="List the models: in use, previous, rejected and why.")
@config_option
@json_option
@exits_with_reason
def list_models(config_path: Path, as_json: bool) -> None:
    """List installed models: which one is in use, which was rolled back and why.

    \b
    Examples:
      defectd model list
    """
    from edge import config
    from edge.host.clock import local_date_time, wall_ns_of
    from edge.model.store import Store

    settings = config.load(config_path)
    store = Store(settings.state_dir)
    active = store.active(settings.model.bundle)
    marks = {active.previous: "previous", active.current: ON_TRIAL if active.is_canary else "in use"}
    rows: list[tuple[Cell, ...]] = []
    for stored in store.list():
        mark = marks.get(stored.digest, "rejected" if stored.digest in active.rejected else "")
        if as_json:
            values = {**asdict(stored), "path": str(stored.path), "mark": mark or None}
            click.echo(json.dumps({**values, "why": active.rejected.get(stored.digest)}))
        else:
            reason = active.rejected[stored.digest] if mark == "rejected" else ""
            at = local_date_time(wall_ns_of(stored.installed))
            rows.append((stored.digest[:12], at, f"{stored.name} {stored.version}", _state(mark), reason))
    if not as_json:
        mark = marks.get("configured", "")
        rows.append(("configured", "", str(settings.model.bundle), _state(mark), ""))
        table.show(COLUMNS, rows)


def _state(mark: str) -> Cell:
    return WORDS.get(mark, mark), STYLES.get(mark, "")


def _use(settings: Any, digest: str, *, as_json: bool) -> None:
    from edge.control.startup import use_from_next_start
    from edge.control.unix_socket import ask
    from edge.host.clock import SystemClock

    reply = ask(settings.state_dir, "model", action="use", digest=digest)
    if reply is None:
        use_from_next_start(settings, digest, SystemClock())
        _echo({"digest": digest, "changed": True}, f"from the next start on: {digest}", as_json=as_json)
    elif reply["changed"]:
        sentence = f"in use: {_title(reply['to'])}, as a canary for {reply['canary_s']:g} s"
        _echo({"digest": digest, **reply}, sentence, as_json=as_json)
    else:
        _echo({"digest": digest, **reply}, f"in use already: {_title(reply['model'])}", as_json=as_json)


def _echo(values: dict[str, Any], sentence: str, *, as_json: bool) -> None:
    click.echo(json.dumps(values)) if as_json else echo(sentence)


def _title(identity: dict[str, str]) -> str:
    return f"{identity['name']} {identity['version']} ({identity['bundle'][:12]})"


def _named(current: str) -> str:
    return "the model of the configuration" if current == "configured" else current
