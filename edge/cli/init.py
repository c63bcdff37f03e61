"""init: a configuration by questions, with every camera and the broker tried before anything is written."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import shutil
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from edge.cli import init_questions
from edge.cli.exit_codes import EXIT_FAILED, exits_with_reason
from edge.cli.options import CONFIG_NAME
from edge.cli.progress import echo, note, result
from edge.host import atomic_files

if TYPE_CHECKING:
    from edge.config import Config
    from edge.config.new_file import NewConfig
    from edge.control.startup import Prepared
    from edge.frame import Frame

_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(slots=True)
class Files:
    """What will be written.  secrets: by the names of their files, beside the configuration."""

    path: Path
    secrets: dict[str, str] = field(default_factory=dict)
    _before: dict[Path, bytes | None] = field(default_factory=dict)
    _made: list[Path] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.path.resolve().parent

    def keep(self, name: str, secret: str) -> None:
        """Remember a secret."""
        self.secrets[name] = secret

    def place_secrets(self) -> None:
        """Write them, so that the configuration can be tried.  Raises OSError."""
        for name, secret in self.secrets.items():
            self.place(self.folder / name, f"{secret}\n".encode(), mode=0o600)

    def place(self, path: Path, content: bytes, mode: int) -> None:
        """Write a file that may be taken back.  Raises OSError."""
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            self._made.append(self.folder)
        if path not in self._before:
            self._before[path] = path.read_bytes() if path.exists() else None
        atomic_files.replace(path, content, mode=mode)

    def take_back(self) -> None:
        """Restore what was there before."""
        for path, content in self._before.items():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                atomic_files.replace(path, content, mode=0o600)
        for folder in self._made:
            with suppress(OSError):  # somebody else has put something there
                folder.rmdir()


@dataclass(frozen=True, slots=True)
class Failed:
    """What did not work when it was tried.  cameras: their names."""

    cameras: frozenset[str]
    broker: bool

    def __bool__(self) -> bool:
        return bool(self.cameras) or self.broker


@click.command(short_help="Make a configuration by questions.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write.  [default: config.yaml; NODE/config.yaml where that is the manual of every key]",
)
@click.option("--node", help="Name of this node.  [default: that of this machine]")
@click.option(
    "--camera", "cameras", multiple=True, metavar="NAME=SOURCE", help="A camera, or `strip` as its source; repeatable."
)
@click.option("--broker", help="mqtts://HOST:8883, mqtt://HOST:1883, or embedded.")
@click.option("--username", help="Of the broker.")
@click.option("--password-file", help="A file with the broker's password, beside the configuration.")
@click.option("--ca-file", help="A PEM file with the certificate of the broker's authority.")
@click.option("--no-search", is_flag=True, help="Do not look for cameras in the network.")
@click.option("--no-probe", is_flag=True, help="Try neither the cameras nor the broker.")
@click.option("--yes", is_flag=True, help="Ask nothing: take the options and the defaults; replace an existing file.")
@exits_with_reason
def init(
    out: Path | None,
    node: str | None,
    cameras: tuple[str, ...],
    broker: str | None,
    username: str | None,
    password_file: str | None,
    ca_file: str | None,
    no_search: bool,
    no_probe: bool,
    yes: bool,
) -> None:
    """Find cameras, ask for node and broker, try everything, and write a configuration with only what differs.

    \b
    Examples:
      defectd init
      defectd init --camera top=rtsp://viewer@10.0.0.20/stream1 --broker mqtts://broker:8883 --username line3
      defectd init --yes --node line3 --camera top=/dev/video0

    Passwords that no option names are asked for. They go into files that only you can read, never into the
    configuration. An existing file is replaced only after you have seen the difference and agreed.
    """
    from edge.config.new_file import NewConfig

    if not yes:
        note("Enter takes the answer in brackets. Nothing is written before everything has been tried.")
    usual = _NOT_IN_NAMES.sub("-", socket.gethostname()).strip("-.") or "line1"
    node = node or (usual if yes else init_questions.node_name(usual))
    files = Files(out or _usual_path(node))
    chosen = [init_questions.camera_of(text, files.keep, ask=not yes) for text in cameras]
    chosen = chosen or init_questions.choose_cameras(files.keep, ask=not yes, search=not no_search)
    new = NewConfig(node, chosen, broker, username, password_file, ca_file)
    new = init_questions.with_broker(new, files.keep, files.folder, ask=not yes)
    is_written = False
    try:
        tried = _tried(new, files, probe=not no_probe, yes=yes)
        is_written = tried is not None and _write(tried, files, yes=yes)
    finally:
        if not is_written:
            files.take_back()
    if not is_written:
        note("nothing is written" + ("; --no-probe writes without trying" if yes else ""))
        sys.exit(EXIT_FAILED)


def _usual_path(node: str) -> Path:
    """`config.yaml` here; in a folder of its own where that is the manual of every key, which must stay as it is."""
    from edge.config.new_file import MANUAL

    usual = Path(CONFIG_NAME)
    with suppress(OSError), usual.open(encoding="utf-8", errors="replace") as file:
        if file.readline().startswith(MANUAL):
            return Path(node) / CONFIG_NAME
    return usual


# ---- trying and writing ----------------------------------------------------------------------------


def _tried(new: NewConfig, files: Files, *, probe: bool, yes: bool) -> NewConfig | None:
    """The answers that work, or that the user wants nevertheless; None: nothing is to be written."""
    from edge import config
    from edge.config.new_file import content_of

    while True:
        files.place_secrets()
        settings = config.parse(content_of(new), origin=str(files.path), base=files.folder, env=os.environ)
        failed = _try_all(settings, files) if probe else None
        if not failed:
            return new
        if yes:
            return None
        question = "Correct these answers (c), write the file nevertheless (w), or stop (s)?"
        answer = click.prompt(question, type=click.Choice(["c", "w", "s"]), default="c", show_choices=False)
        if answer != "c":
            return new if answer == "w" else None
        correct = init_questions.corrected_camera
        cameras = [correct(each, files.keep) if each.name in failed.cameras else each for each in new.cameras]
        new = replace(new, cameras=cameras)
        if failed.broker:
            new = init_questions.corrected_broker(new, files.keep)


def _try_all(settings: Config, files: Files) -> Failed:
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
            picture = files.path.with_name(f"{files.path.stem}-{frame.camera}.png")
            files.place(files.folder / picture.name, _with_tiles(frame, prepared), mode=0o644)
            pictures[frame.camera] = picture
        return fault

    closed = set()
    for name, probed in probe(settings.active_cameras, clock, judge).items():
        actual = probed.actual
        if probed.error or actual is None:
            closed.add(name)
            result("✗", f"camera {name}: {probed.error}")
        else:
            shown = f", its picture with the tiles: {pictures[name]}" if name in pictures else ""
            result("✓", f"camera {name}: {actual.width}x{actual.height} at {actual.fps:g} fps{shown}")
    found = broker.finding(settings, clock)
    mark = {"ok": "✓", "warning": "!", "fail": "✗"}[found.grade]
    result(mark, f"broker: {found.says}", *filter(None, [found.remedy]))
    return Failed(frozenset(closed), found.grade == "fail")


def _with_tiles(frame: Frame, prepared: Prepared) -> bytes:
    """The picture as PNG, with the borders of its tiles, as the daemon would cut them."""
    import cv2
    import numpy as np

    from edge.vision.drawing import png

    session = next(each for each in prepared.sessions if each.name == frame.camera)
    canvas = cv2.cvtColor(frame.pixels, cv2.COLOR_GRAY2BGR)
    for x, y, w, h in session.inspector.prepare(frame.pixels, follow=False).boxes():
        cv2.rectangle(canvas, (int(x), int(y)), (int(x + w - 1), int(y + h - 1)), (230, 170, 60), 1)
    return png(np.asarray(canvas, np.uint8))


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
    files.place(files.path, text.encode(), mode=0o644)
    echo(f"written: {', '.join(map(str, (files.path, *(files.path.with_name(name) for name in files.secrets))))}")
    change, program, option = _typed(files.path)
    echo(f"Next: {change}{program} run{option}")
    echo(f"Then, with good product moving: {program} calibrate auto --camera {new.cameras[0].name}{option}")
    return True


def _typed(path: Path) -> tuple[str, str, str]:
    """What a shell needs here to find the configuration: a change of folder, this program's name, and an option."""
    called = Path(sys.argv[0])
    found = shutil.which(called.name)
    program = "defectd"
    if called.name == program and (found is None or Path(found).resolve() != called.resolve()):
        program = str(called) if called.is_absolute() else os.path.relpath(called, path.parent)
    is_here = path.parent.resolve() == Path.cwd()
    change = "" if is_here else f"cd {shlex.quote(str(path.parent))} && "
    option = "" if path.name == CONFIG_NAME else f" -c {shlex.quote(path.name)}"
    return change, shlex.quote(program), option
