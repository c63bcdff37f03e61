"""The questions of `defectd init`. Each answer is checked when it is given, and a wrong one is asked for again."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import click

from edge.cli.progress import echo, note

if TYPE_CHECKING:
    from edge.camera.discovery import FoundCamera
    from edge.cli.setup_files import SetupFiles
    from edge.config.new_file import NewBroker, NewCamera

GENERATED: Final = "strip:?mm_per_px=0.25"
USUAL_NAMES: Final = ("top", "bottom")
WITH_LOGIN: Final = ("rtsp", "rtsps", "http", "https")
"""Schemes of sources that may want a user and a password."""


def node_name(default: str) -> str:
    """The name of this node."""
    return _asked("Name of this node", _node, default=default)


# ---- cameras ---------------------------------------------------------------------------------------


def camera_of(text: str, files: SetupFiles, *, ask: bool) -> NewCamera:
    """The camera that `--camera NAME=SOURCE` names; its password goes into a file.  Raises click.UsageError."""
    from edge.config.new_file import NewCamera

    name, equals, source = text.partition("=")
    if not equals or not name or not source:
        raise click.BadParameter(f"{text!r}: write NAME=SOURCE, for example top=/dev/video0", param_hint="--camera")
    source = GENERATED if source == "strip" else source
    _check({"cameras": [{"name": name, "source": source}]})
    return NewCamera(name, _with_login(source, name, files, ask=ask))


def choose_cameras(files: SetupFiles, *, ask: bool, search: bool) -> list[NewCamera]:
    """Show what was found, and let the user choose by number, or write a source."""
    from edge.config.new_file import NewCamera

    found = found_cameras(search=search)
    for number, camera in enumerate(found, 1):
        echo(f"  {number}  {camera.source}  {camera.description}")
    if not ask:
        return [NewCamera(USUAL_NAMES[0], found[0].source if found else GENERATED)]
    numbers = "a number of the list, " if found else ""
    echo(f"Write {numbers}a URL (rtsp://10.0.0.20/stream1), a device (/dev/video0), a file, or strip (generated).")
    words = _asked("Cameras, separated by blanks", _sources, default="1" if found else "strip").split()
    chosen: list[NewCamera] = []
    for word in words:
        usual = USUAL_NAMES[len(chosen)] if len(chosen) < len(USUAL_NAMES) else f"camera{len(chosen) + 1}"
        source = _source_of(word, found)
        name = _asked(f"Name of the camera {_public(source)}", _name_besides(chosen), default=usual)
        chosen.append(NewCamera(name, _with_login(source, name, files, ask=True)))
    return chosen


def corrected_camera(camera: NewCamera, files: SetupFiles) -> NewCamera:
    """Ask once more for what may be wrong with a camera that did not open."""
    bare, user = _without_login(camera.source)
    files.forget(camera.source)
    source = _asked(f"Source of the camera {camera.name}", _source, default=bare)
    return replace(camera, source=_with_login(source, camera.name, files, ask=True, user=user))


def found_cameras(*, search: bool) -> list[FoundCamera]:
    """Cameras of this machine, and with a search those that answer in its networks."""
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
        if camera.host:
            return _asked("Its stream, with the path from its manual", _source, default=camera.source)
        return camera.source
    return word


def _with_login(source: str, name: str, files: SetupFiles, *, ask: bool, user: str = "") -> str:
    """The URL with a user and a reference to a file with the password, if the camera wants them.

    user: the default of the question.
    """
    parts = urlsplit(source)
    if parts.scheme not in WITH_LOGIN or "${" in parts.netloc:
        return source
    login, password = unquote(parts.username or ""), parts.password
    if not login and ask:
        login = click.prompt("Its user (empty: none)", default=user, show_default=bool(user))
    if not login or (password is None and not ask):
        return source
    secret = click.prompt("Its password", hide_input=True) if password is None else unquote(password)
    return files.with_login(_without_login(source)[0], name, login, secret)


def _without_login(source: str) -> tuple[str, str]:
    """The source without user and password, and the user."""
    parts = urlsplit(source)
    if parts.scheme not in WITH_LOGIN:
        return source, ""
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])), unquote(parts.username or "")


def _public(source: str) -> str:
    from edge.host.url import public_url

    return public_url(source)


# ---- the broker ------------------------------------------------------------------------------------


def broker_of(given: NewBroker, files: SetupFiles, *, ask: bool) -> NewBroker:
    """Ask for what the options did not name.  given: by options, "" for the address that none named.

    Raises click.UsageError.
    """
    from edge.config.new_file import EMBEDDED

    named = _checked_broker(given.address) if given.address else ""
    address = _broker(named or (_asked_broker(EMBEDDED) if ask else EMBEDDED))
    plain = _is_plain(address)
    if named and plain and ask and not _agrees_to_plain():
        raise click.UsageError("write mqtts://HOST:8883")
    broker = replace(given, address=address, allow_plaintext=plain)
    if not ask or address.startswith(EMBEDDED):
        return broker
    note(f"at {address}")
    user = broker.username or click.prompt("User at the broker (empty: none)", default="", show_default=False) or None
    return _with_password(replace(broker, username=user), files)


def corrected_broker(broker: NewBroker, files: SetupFiles) -> NewBroker:
    """Ask once more for what may be wrong with a broker that did not answer."""
    from edge.config.new_file import EMBEDDED, NewBroker

    files.forget(broker.password_file or "")
    address = _broker(_asked_broker(broker.address))
    if address.startswith(EMBEDDED):
        return NewBroker(address)
    ca_file = broker.ca_file or ""
    if address.startswith("mqtts:"):
        question = "The certificate of its authority, a PEM file (empty: the system's)"
        ca_file = click.prompt(question, default=ca_file, show_default=bool(ca_file))
    user = broker.username or ""
    user = click.prompt("User at the broker (empty: none)", default=user, show_default=bool(user))
    corrected = NewBroker(address, user or None, allow_plaintext=_is_plain(address), ca_file=ca_file or None)
    return _with_password(corrected, files)


def _with_password(broker: NewBroker, files: SetupFiles) -> NewBroker:
    """Ask for the password, unless its file is there."""
    from edge.cli.setup_answers import BROKER_SECRET

    named = broker.password_file
    if broker.username is None or (named is not None and (files.folder / named).exists()):
        return broker
    if named is not None and Path(named).name != named:
        raise click.UsageError(f"--password-file {named}: there is no such file; give a name beside the configuration")
    secret = click.prompt("Password at the broker", hide_input=True)
    return replace(broker, password_file=files.keep_secret(named or BROKER_SECRET, secret))


def _asked_broker(default: str) -> str:
    """An address; one without TLS to another machine only after a yes."""
    echo("Write mqtts://HOST:8883, mqtt://HOST:1883, or embedded (a small broker inside, to try).")
    while True:
        answer = _asked("Broker", _checked_broker, default=default)
        if not _is_plain(_broker(answer)) or _agrees_to_plain():
            return answer


def _agrees_to_plain() -> bool:
    return click.confirm("Without TLS everybody on the way can read and change the messages. Use it?")


def _is_plain(address: str) -> bool:
    from edge.config.broker_address import is_loopback

    return address.startswith("mqtt://") and not is_loopback(urlsplit(address).hostname or "")


def _broker(text: str) -> str:
    """The address that HOST or HOST:PORT means: with TLS, but for the port of MQTT without, and for this machine."""
    from edge.config.broker_address import is_loopback

    if "://" in text or text.startswith("embedded"):
        return text
    parts = urlsplit(f"//{text}")
    is_plain = parts.port == 1883 or (parts.port is None and is_loopback(parts.hostname or ""))
    port = parts.port or (1883 if is_plain else 8883)
    return f"mqtt{'' if is_plain else 's'}://{parts.netloc.removesuffix(f':{port}')}:{port}"


# ---- checking --------------------------------------------------------------------------------------


def _asked(question: str, check: Callable[[str], str], *, default: str) -> str:
    answer: str = click.prompt(question, default=default, value_proc=check)
    return answer


def _node(text: str) -> str:
    _check({"node": text})
    return text


def _name_besides(chosen: Collection[NewCamera]) -> Callable[[str], str]:
    def check(text: str) -> str:
        others = [{"name": camera.name, "source": "strip:"} for camera in chosen]
        _check({"cameras": [*others, {"name": text, "source": "strip:"}]})
        return text

    return check


def _sources(text: str) -> str:
    for word in text.split() or [""]:
        _source(word)
    return text


def _source(text: str) -> str:
    _check({"cameras": [{"name": USUAL_NAMES[0], "source": text}]})
    return text


def _checked_broker(text: str) -> str:
    try:
        address = _broker(text)
    except ValueError:
        address = text
    _check({"mqtt": {"broker": address, "allow_plaintext": True}})
    return text


def _check(keys: dict[str, Any]) -> None:
    """Raises click.UsageError with what the daemon would say to these keys."""
    from edge import config
    from edge.errors import ConfigError

    usual = {"node": "line1", "cameras": [{"name": USUAL_NAMES[0], "source": GENERATED}]}
    try:
        config.parse({**usual, **keys}, origin="", base=Path(), env=os.environ)
    except ConfigError as error:
        raise click.UsageError("; ".join(str(problem) for problem in error.problems)) from None
