"""init: a configuration by questions, with every camera and the broker tried before anything is written."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from edge.cli.exit_codes import EXIT_FAILED, exits_with_reason
from edge.cli.options import json_option
from edge.cli.progress import echo, note

if TYPE_CHECKING:
    from edge.camera.discovery import FoundCamera
    from edge.cli.setup_files import SetupFiles
    from edge.config import Config
    from edge.config.new_file import NewBroker, NewCamera, NewConfig

GENERATED: Final = "strip:?mm_per_px=0.25"
USUAL_NAMES: Final = ("top", "bottom")
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_.-]+")


@click.command(short_help="Make a configuration by questions.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("config.yaml"), show_default=True
)
@click.option("--node", help="Name of this node.  [default: that of this machine]")
@click.option("--camera", "cameras", multiple=True, metavar="NAME=SOURCE", help="A camera; may be repeated.")
@click.option("--broker", help="mqtts://HOST:8883, mqtt://HOST:1883, or embedded.")
@click.option("--username", help="Of the broker.")
@click.option("--password-file", help="A file with the broker's password, beside the configuration.")
@click.option("--no-search", is_flag=True, help="Do not look for cameras in the network.")
@click.option("--no-probe", is_flag=True, help="Try neither the cameras nor the broker.")
@click.option("--yes", is_flag=True, help="Ask nothing: take the options and the defaults; replace an existing file.")
@click.option("--find", is_flag=True, help="Only list the cameras that are found, and what is configured.")
@click.option("--answers", type=click.Path(path_type=Path), help="Ask nothing: take the answers from a JSON file.")
@click.option("--dry-run", is_flag=True, help="With --answers: try, show the difference, and write nothing.")
@click.option("--undo", is_flag=True, help="Go back to the configuration before the last init.")
@json_option
@exits_with_reason
def init(
    out: Path,
    node: str | None,
    cameras: tuple[str, ...],
    broker: str | None,
    username: str | None,
    password_file: str | None,
    no_search: bool,
    no_probe: bool,
    yes: bool,
    find: bool,
    answers: Path | None,
    dry_run: bool,
    undo: bool,
    as_json: bool,
) -> None:
    """Find cameras, ask for node and broker, try everything, and write a configuration with only what differs.

    \b
    Examples:
      defectd init
      defectd init --yes --node line3 --camera top=rtsp://10.0.0.20/stream1 --broker mqtts://broker:8883
      defectd init --undo

    Passwords go into files that only you can read, never into the configuration. An existing file is changed only
    after you have seen the difference and agreed: node, broker and cameras; the rest of it stays.
    """
    from edge.cli.setup_files import SetupFiles

    files = SetupFiles(out)
    if find:
        _show_found(files, search=not no_search, as_json=as_json)
    elif undo:
        _undo(files, as_json=as_json)
    elif answers is not None:
        _take(answers, files, dry_run=dry_run, as_json=as_json)
    else:
        node = node or _ask(
            "Name of this node", _NOT_IN_NAMES.sub("-", socket.gethostname()).strip("-.") or "line1", yes
        )
        chosen = [_camera_of(text) for text in cameras] or _choose_cameras(files, ask=not yes, search=not no_search)
        _make(node, chosen, _broker_of(files, broker, username, password_file, ask=not yes), files, no_probe, yes)


def _make(
    node: str, cameras: Sequence[NewCamera], broker: NewBroker, files: SetupFiles, no_probe: bool, yes: bool
) -> None:
    """Try the answers of a person, and write them if they work, or with consent."""
    from edge.config.new_file import NewConfig

    new = NewConfig(node, cameras, broker)
    with tempfile.TemporaryDirectory(prefix="defectd-init-") as folder:
        settings = _settings(new, files, Path(folder))
        works = no_probe or _try(settings, files)
    if not ((works or (not yes and click.confirm("Write it nevertheless?"))) and _write(new, files, yes=yes)):
        note("nothing is written" + ("; --no-probe writes without trying" if yes else ""))
        sys.exit(EXIT_FAILED)


# ---- cameras ---------------------------------------------------------------------------------------


def _camera_of(text: str) -> NewCamera:
    from edge.config.new_file import NewCamera

    name, equals, source = text.partition("=")
    if not equals or not name or not source:
        raise click.BadParameter(f"{text!r}: write NAME=SOURCE, for example top=/dev/video0", param_hint="--camera")
    return NewCamera(name, source)


def _choose_cameras(files: SetupFiles, *, ask: bool, search: bool) -> list[NewCamera]:
    """Show what was found, and let the user choose by number, or write a source."""
    from edge.config.new_file import NewCamera

    found = _found(search=search)
    for number, camera in enumerate(found, 1):
        echo(f"  {number}  {camera.source}  {camera.description}")
    if not ask:
        return [NewCamera(USUAL_NAMES[0], found[0].source if found else GENERATED)]
    echo("Which cameras? Numbers of the list, a device, a URL, a file, or `strip` for a generated strip.")
    answer = click.prompt("Cameras, separated by blanks", default="1" if found else "strip")
    chosen: list[NewCamera] = []
    for word in answer.split():
        usual = USUAL_NAMES[len(chosen)] if len(chosen) < len(USUAL_NAMES) else f"camera{len(chosen) + 1}"
        source = _source_of(word, found)
        name = click.prompt(f"Name of the camera {source}", default=usual)
        chosen.append(NewCamera(name, _with_login(source, name, files)))
    return chosen


def _found(*, search: bool) -> list[FoundCamera]:
    from edge.camera.discovery import local_cameras, network_cameras
    from edge.host.clock import SystemClock

    found = local_cameras()
    if search:
        note("looking for cameras in the network for two seconds ...")
        found += network_cameras(SystemClock())
    if not found:
        note("no camera was found on this machine" + (" or in its networks" if search else ""))
    return found


def _source_of(word: str, found: Sequence[FoundCamera]) -> str:
    if word == "strip":
        return GENERATED
    if word.isdecimal() and 1 <= int(word) <= len(found):
        camera = found[int(word) - 1]
        return click.prompt("Its stream", default=camera.source) if camera.host else camera.source
    return word


def _with_login(source: str, name: str, files: SetupFiles) -> str:
    """The URL with a user and a reference to a file with the password, if the camera wants them."""
    parts = urlsplit(source)
    if parts.scheme not in ("rtsp", "rtsps", "http", "https") or parts.username is not None:
        return source
    user = click.prompt("Its user (empty: none)", default="", show_default=False)
    return files.with_login(source, name, user, click.prompt("Its password", hide_input=True)) if user else source


# ---- the broker ------------------------------------------------------------------------------------


def _broker_of(
    files: SetupFiles, broker: str | None, username: str | None, password_file: str | None, *, ask: bool
) -> NewBroker:
    from edge.cli.setup_answers import BROKER_SECRET
    from edge.config.new_file import EMBEDDED, NewBroker

    if broker is None:
        broker = click.prompt("Broker (embedded: a small one inside, to try)", default=EMBEDDED) if ask else EMBEDDED
    if broker == EMBEDDED:
        return NewBroker(EMBEDDED)
    if "://" not in broker:
        broker = f"mqtts://{broker}:8883"
        note(f"taken as {broker}")
    plain = broker.startswith("mqtt://") and urlsplit(broker).hostname not in ("localhost", "127.0.0.1", "::1")
    if (
        plain
        and ask
        and not click.confirm("Without TLS everybody on the way can read and change the messages. Use it?")
    ):
        raise click.UsageError("write mqtts://HOST:8883")
    if username is None and ask:
        username = click.prompt("User at the broker (empty: none)", default="", show_default=False) or None
    if username is not None and password_file is None and ask:
        password_file = files.keep_secret(BROKER_SECRET, click.prompt("Password at the broker", hide_input=True))
    return NewBroker(broker, username, password_file, allow_plaintext=plain)


# ---- trying and writing ----------------------------------------------------------------------------


def _settings(new: NewConfig, files: SetupFiles, folder: Path) -> Config:
    """What the daemon would run with.  folder: for the secrets, while they are tried.  Raises ConfigError, OSError."""
    from edge import config
    from edge.config import yaml_file
    from edge.config.new_file import text_of

    files.place_secrets(folder)
    text = text_of(files.on_trial(new, folder), files.present())
    origin = str(files.path)
    return config.parse(yaml_file.parsed(text.encode(), origin), origin=origin, base=files.folder, env=os.environ)


def _try(settings: Config, files: SetupFiles) -> bool:
    """Show how each camera and the broker answer."""
    from edge.cli.setup_trial import tried

    found = tried(settings, lambda name: files.folder / f"{files.path.stem}-{name}.png")
    for camera in found.cameras:
        if camera.error or camera.actual is None:
            echo(f"✗ camera {camera.name}: {camera.error}")
        else:
            shown = f", its picture with the tiles: {camera.picture}" if camera.picture else ""
            actual = camera.actual
            echo(f"✓ camera {camera.name}: {actual.width}x{actual.height} at {actual.fps:g} fps{shown}")
    mark = {"ok": "✓", "warning": "!", "fail": "✗"}[found.broker.grade]
    remedy = f" -> {found.broker.remedy}" if found.broker.remedy else ""
    echo(f"{mark} broker: {found.broker.says}{remedy}")
    return found.works


def _write(new: NewConfig, files: SetupFiles, *, yes: bool) -> bool:
    """Write the configuration; an existing one only after its difference was shown.  False when the user refuses."""
    from edge.config.new_file import text_of

    before = files.present()
    difference = files.difference(text_of(new, before))
    if before is not None and difference:
        echo(difference)
        if not yes and not click.confirm(f"Replace {files.path}?"):
            return False
    elif before is not None:
        note(f"{files.path} is already like this")
    files.write(new)
    echo(f"written: {', '.join([str(files.path), *files.secrets])}\nNext: defectd run -c {files.path}")
    return True


def _undo(files: SetupFiles, *, as_json: bool) -> None:
    from edge.cli.setup_files import digest

    if not files.before.exists():
        raise click.ClickException(f"{files.before} is missing: there is no set-up to undo")
    before = digest(files.present())
    files.undo()
    if as_json:
        echo(json.dumps({"before_sha256": before, "after_sha256": digest(files.present())}))
    else:
        echo(f"{files.path} is as before the last init; another --undo goes forward again")


def _ask(question: str, default: str, yes: bool) -> str:
    return default if yes else click.prompt(question, default=default)


# ---- without questions -----------------------------------------------------------------------------


def _show_found(files: SetupFiles, *, search: bool, as_json: bool) -> None:
    from edge.cli.setup_present import present

    found = _found(search=search)
    if as_json:
        echo(json.dumps({"present": present(files), "found": [asdict(camera) for camera in found]}))
        return
    for camera in found:
        echo(f"{camera.source}  {camera.description}")


def _take(answers: Path, files: SetupFiles, *, dry_run: bool, as_json: bool) -> None:
    """Try answers from a file, or write what they gave when they were tried."""
    from edge.cli import setup_answers
    from edge.cli.setup_files import digest
    from edge.cli.setup_present import effect, masked
    from edge.config.new_file import text_of

    new = setup_answers.read(answers).new_config(files)
    folder = answers.resolve().parent
    before = files.present()
    settings = _settings(new, files, folder)
    result: dict[str, Any] = {
        "file": str(files.path),
        "before_sha256": digest(before),
        "after_sha256": digest(text_of(new, before)),
        "difference": masked(files.difference(text_of(new, before)), files),
        "secrets": list(files.secrets),
        "effect": effect(files, settings),
    }
    if dry_run:
        from edge.cli.setup_trial import tried

        found = tried(settings, lambda name: folder / f"{name}.png", {camera.name for camera in new.cameras})
        result |= found.as_json()
    else:
        files.write(new)
    if as_json:
        echo(json.dumps(result))
    elif dry_run:
        echo(result["difference"])
        echo("it works" if result["works"] else "it does not work: see --json")
    else:
        echo(f"written: {', '.join([str(files.path), *files.secrets])}")
