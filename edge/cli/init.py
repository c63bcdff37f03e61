"""init: a configuration by questions, with every camera and the broker tried before anything is written."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from edge.cli import init_questions
from edge.cli.exit_codes import EXIT_FAILED, exits_with_reason
from edge.cli.options import CONFIG_NAME, json_option
from edge.cli.progress import echo, note, result

if TYPE_CHECKING:
    from edge.cli.setup_files import SetupFiles
    from edge.cli.setup_trial import Trial
    from edge.config import Config
    from edge.config.new_file import NewConfig

_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_.-]+")


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
@click.option("--find", is_flag=True, help="Only list the cameras that are found, and what is configured.")
@click.option("--answers", type=click.Path(path_type=Path), help="Ask nothing: take the answers from a JSON file.")
@click.option("--dry-run", is_flag=True, help="With --answers: try, show the difference, and write nothing.")
@click.option("--undo", is_flag=True, help="Go back to the configuration before the last init.")
@json_option
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
      defectd init --camera top=rtsp://viewer@10.0.0.20/stream1 --broker mqtts://broker:8883 --username line3
      defectd init --yes --node line3 --camera top=/dev/video0
      defectd init --undo

    Passwords that no option names are asked for. They go into files that only you can read, never into the
    configuration. An existing file is changed only
    after you have seen the difference and agreed: node, broker and cameras; the rest of it stays.
    """
    from edge.cli.setup_files import SetupFiles
    from edge.config.new_file import NewBroker, NewConfig

    usual = _NOT_IN_NAMES.sub("-", socket.gethostname()).strip("-.") or "line1"
    if find:
        _show_found(SetupFiles(out or Path(CONFIG_NAME)), search=not no_search, as_json=as_json)
        return
    if undo:
        _undo(SetupFiles(out or Path(CONFIG_NAME)), as_json=as_json)
        return
    if answers is not None:
        _take(answers, SetupFiles(out or Path(CONFIG_NAME)), dry_run=dry_run, as_json=as_json)
        return
    if not yes:
        note("Enter takes the answer in brackets. Nothing is written before everything has been tried.")
    node = node or (usual if yes else init_questions.node_name(usual))
    files = SetupFiles(out or _usual_path(node))
    chosen = [init_questions.camera_of(text, files, ask=not yes) for text in cameras]
    chosen = chosen or init_questions.choose_cameras(files, ask=not yes, search=not no_search)
    given = NewBroker(broker or "", username, password_file, ca_file=ca_file)
    new = NewConfig(node, chosen, init_questions.broker_of(given, files, ask=not yes))
    _make(new, files, probe=not no_probe, yes=yes)


def _usual_path(node: str) -> Path:
    """`config.yaml` here; in a folder of its own where that is the manual of every key, which must stay as it is."""
    from edge.config.new_file import MANUAL

    usual = Path(CONFIG_NAME)
    with suppress(OSError), usual.open(encoding="utf-8", errors="replace") as file:
        if file.readline().startswith(MANUAL):
            return Path(node) / CONFIG_NAME
    return usual


def _make(new: NewConfig, files: SetupFiles, *, probe: bool, yes: bool) -> None:
    """Try the answers of a person, and write them if they work, or with consent."""
    with tempfile.TemporaryDirectory(prefix="defectd-init-") as folder:
        trial = Path(folder)
        wanted = _agreed(new, files, trial, probe=probe, yes=yes)
        if wanted is None or not _write(wanted, files, trial, yes=yes):
            note("nothing is written" + ("; --no-probe writes without trying" if yes else ""))
            sys.exit(EXIT_FAILED)


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


def _agreed(new: NewConfig, files: SetupFiles, folder: Path, *, probe: bool, yes: bool) -> NewConfig | None:
    """The answers that work, or that the user wants nevertheless; None: nothing is to be written."""
    while True:
        settings = _settings(new, files, folder)
        found = _try(settings, folder) if probe else None
        if found is None or found.works:
            return new
        if yes:
            return None
        question = "Correct these answers (c), write the file nevertheless (w), or stop (s)?"
        answer = click.prompt(question, type=click.Choice(["c", "w", "s"]), default="c", show_choices=False)
        if answer != "c":
            return new if answer == "w" else None
        new = _corrected(new, files, found)


def _corrected(new: NewConfig, files: SetupFiles, found: Trial) -> NewConfig:
    """Ask once more for what did not work."""
    failed = {camera.name for camera in found.cameras if camera.error}
    correct = init_questions.corrected_camera
    cameras = [correct(each, files) if each.name in failed else each for each in new.cameras]
    broker = new.broker
    if found.broker.grade == "fail" and broker is not None:
        broker = init_questions.corrected_broker(broker, files)
    return replace(new, cameras=cameras, broker=broker)


def _try(settings: Config, folder: Path) -> Trial:
    """Show how each camera and the broker answer.  folder: for the pictures."""
    from edge.cli.setup_trial import tried

    found = tried(settings, lambda name: folder / f"{name}.png")
    for camera in found.cameras:
        if camera.error or camera.actual is None:
            result("✗", f"camera {camera.name}: {camera.error}")
        else:
            actual = camera.actual
            result("✓", f"camera {camera.name}: {actual.width}x{actual.height} at {actual.fps:g} fps")
    mark = {"ok": "✓", "warning": "!", "fail": "✗"}[found.broker.grade]
    result(mark, f"broker: {found.broker.says}", *filter(None, [found.broker.remedy]))
    return found


def _write(new: NewConfig, files: SetupFiles, trial: Path, *, yes: bool) -> bool:
    """Write the configuration; an existing one only after its difference was shown.  False when the user refuses.

    trial: the folder with pictures of the cameras.
    """
    from edge.config.new_file import text_of

    before = files.present()
    difference = files.difference(text_of(new, before))
    if before is not None and difference:
        echo(difference)
        if not yes and not click.confirm(f"Replace {files.path}?"):
            return False
    elif before is not None:
        note(f"{files.path} is already like this")
    files.folder.mkdir(parents=True, exist_ok=True)
    files.write(new)
    echo(f"written: {', '.join(map(str, [files.path, *map(files.path.with_name, files.secrets)]))}")
    for picture in sorted(trial.glob("*.png")):
        kept = files.path.with_name(f"{files.path.stem}-{picture.name}")
        shutil.copyfile(picture, kept)
        echo(f"picture of camera {picture.stem} with its tiles: {kept}")
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


# ---- without questions -----------------------------------------------------------------------------


def _show_found(files: SetupFiles, *, search: bool, as_json: bool) -> None:
    from edge.cli.setup_present import present

    found = init_questions.found_cameras(search=search)
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
    facts: dict[str, Any] = {
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
        facts |= found.as_json()
    else:
        files.write(new)
    if as_json:
        echo(json.dumps(facts))
    elif dry_run:
        echo(facts["difference"])
        echo("it works" if facts["works"] else "it does not work: see --json")
    else:
        echo(f"written: {', '.join([str(files.path), *files.secrets])}")
