"""init: a configuration by questions, with every camera and the broker tried before anything is written."""

from __future__ import annotations

import difflib
import os
import re
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

import click

from edge.cli.exit_codes import EXIT_FAILED, exits_with_reason
from edge.cli.progress import echo, note
from edge.host import atomic_files

if TYPE_CHECKING:
    from edge.camera.discovery import FoundCamera
    from edge.config import Config
    from edge.config.new_file import NewCamera, NewConfig
    from edge.control.startup import Prepared
    from edge.frame import Frame

GENERATED: Final = "strip:?mm_per_px=0.25"
USUAL_NAMES: Final = ("top", "bottom")
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(slots=True)
class Files:
    """What will be written.  secrets: by the names of their files, beside the configuration."""

    path: Path
    secrets: dict[str, str] = field(default_factory=dict)
    _before: dict[Path, bytes | None] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.path.resolve().parent

    def place_secrets(self) -> None:
        """Write them, so that the configuration can be tried.  Raises OSError."""
        for name, secret in self.secrets.items():
            path = self.folder / name
            self._before[path] = path.read_bytes() if path.exists() else None
            atomic_files.replace(path, f"{secret}\n".encode(), mode=0o600)

    def take_secrets_back(self) -> None:
        """Restore what was there before."""
        for path, content in self._before.items():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                atomic_files.replace(path, content, mode=0o600)


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
) -> None:
    """Find cameras, ask for node and broker, try everything, and write a configuration with only what differs.

    \b
    Examples:
      defectd init
      defectd init --yes --node line3 --camera top=rtsp://10.0.0.20/stream1 --broker mqtts://broker:8883

    Passwords go into files that only you can read, never into the configuration. An existing file is replaced only
    after you have seen the difference and agreed.
    """
    from edge import config
    from edge.config.new_file import NewConfig, content_of

    files = Files(out)
    node = node or _ask("Name of this node", _NOT_IN_NAMES.sub("-", socket.gethostname()).strip("-.") or "line1", yes)
    chosen = [_camera_of(text) for text in cameras] or _choose_cameras(files, ask=not yes, search=not no_search)
    new = NewConfig(node, chosen)
    new = _with_broker(new, files, broker, username, password_file, ask=not yes)
    files.place_secrets()
    is_written = False
    try:
        settings = config.parse(content_of(new), origin=str(out), base=files.folder, env=os.environ)
        works = no_probe or _try_all(settings, files)
        is_written = (works or (not yes and click.confirm("Write it nevertheless?"))) and _write(new, files, yes=yes)
    finally:
        if not is_written:
            files.take_secrets_back()
    if not is_written:
        note("nothing is written" + ("; --no-probe writes without trying" if yes else ""))
        sys.exit(EXIT_FAILED)


# ---- cameras ---------------------------------------------------------------------------------------


def _camera_of(text: str) -> NewCamera:
    from edge.config.new_file import NewCamera

    name, equals, source = text.partition("=")
    if not equals or not name or not source:
        raise click.BadParameter(f"{text!r}: write NAME=SOURCE, for example top=/dev/video0", param_hint="--camera")
    return NewCamera(name, source)


def _choose_cameras(files: Files, *, ask: bool, search: bool) -> list[NewCamera]:
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


def _with_login(source: str, name: str, files: Files) -> str:
    """The URL with a user and a reference to a file with the password, if the camera wants them."""
    parts = urlsplit(source)
    if parts.scheme not in ("rtsp", "rtsps", "http", "https") or parts.username is not None:
        return source
    user = click.prompt("Its user (empty: none)", default="", show_default=False)
    if not user:
        return source
    secret = f"camera-{name}-password"
    files.secrets[secret] = click.prompt("Its password", hide_input=True)
    return urlunsplit(parts._replace(netloc=f"{user}:${{file:{secret}}}@{parts.netloc}"))


# ---- the broker ------------------------------------------------------------------------------------


def _with_broker(
    new: NewConfig, files: Files, broker: str | None, username: str | None, password_file: str | None, *, ask: bool
) -> NewConfig:
    if broker is None:
        broker = (
            click.prompt("Broker (embedded: a small one inside, to try)", default="embedded") if ask else "embedded"
        )
    if broker == "embedded":
        return new
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
        password_file = "mqtt-password"  # noqa: S105 (the name of a file)
        files.secrets[password_file] = click.prompt("Password at the broker", hide_input=True)
    return replace(new, broker=broker, username=username, password_file=password_file, allow_plaintext=plain)


# ---- trying and writing ----------------------------------------------------------------------------


def _try_all(settings: Config, files: Files) -> bool:
    """Open each camera and the broker, show the results, and save a picture of each camera with its tiles."""
    from edge.camera.probe import probe
    from edge.control.startup import prepare
    from edge.host.clock import SystemClock
    from edge.monitoring.doctor import broker

    clock = SystemClock()
    prepared = prepare(settings, clock)
    pictures: dict[str, Path] = {}

    def judge(frame: Frame) -> str | None:
        fault = prepared.picture_fault(frame)
        if fault is None:
            picture = files.folder / f"{files.path.stem}-{frame.camera}.png"
            _save_tiles(picture, frame, prepared)
            pictures[frame.camera] = picture
        return fault

    works = True
    for name, result in probe(settings.active_cameras, clock, judge).items():
        actual = result.actual
        if result.error or actual is None:
            works = False
            echo(f"✗ camera {name}: {result.error}")
        else:
            shown = f", its picture with the tiles: {pictures[name]}" if name in pictures else ""
            echo(f"✓ camera {name}: {actual.width}x{actual.height} at {actual.fps:g} fps{shown}")
    found = broker.finding(settings, clock)
    mark = {"ok": "✓", "warning": "!", "fail": "✗"}[found.grade]
    echo(f"{mark} broker: {found.says}" + (f" -> {found.remedy}" if found.remedy else ""))
    return works and found.grade != "fail"


def _save_tiles(path: Path, frame: Frame, prepared: Prepared) -> None:
    """Write the picture with the borders of its tiles, as the daemon would cut them."""
    import cv2
    import numpy as np

    from edge.vision.drawing import png

    session = next(each for each in prepared.sessions if each.name == frame.camera)
    canvas = cv2.cvtColor(frame.pixels, cv2.COLOR_GRAY2BGR)
    for x, y, w, h in session.inspector.prepare(frame.pixels, follow=False).boxes():
        cv2.rectangle(canvas, (int(x), int(y)), (int(x + w - 1), int(y + h - 1)), (230, 170, 60), 1)
    path.write_bytes(png(np.asarray(canvas, np.uint8)))


def _write(new: NewConfig, files: Files, *, yes: bool) -> bool:
    """Write the configuration; an existing one only after its difference was shown.  False when the user refuses."""
    from edge.config.new_file import text_of

    text = text_of(new)
    if files.path.exists():
        before = files.path.read_text("utf-8", "replace")
        if before == text:
            note(f"{files.path} is already like this")
        else:
            names = (str(files.path), "new")
            diff = difflib.unified_diff(before.splitlines(), text.splitlines(), *names, lineterm="")
            echo("\n".join(diff))
            if not yes and not click.confirm(f"Replace {files.path}?"):
                return False
    atomic_files.replace(files.path, text.encode(), mode=0o644)
    written = ", ".join([str(files.path), *files.secrets])
    echo(f"written: {written}\nNext: defectd run -c {files.path}")
    return True


def _ask(question: str, default: str, yes: bool) -> str:
    return default if yes else click.prompt(question, default=default)
