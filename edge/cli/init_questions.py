"""The questions of `defectd init`. Each answer is checked when it is given, and a wrong one is asked for again."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import click

from edge.cli.progress import echo, note

if TYPE_CHECKING:
    from edge.camera.discovery import FoundCamera
    from edge.config.new_file import NewCamera, NewConfig

GENERATED: Final = "strip:?mm_per_px=0.25"
USUAL_NAMES: Final = ("top", "bottom")
WITH_LOGIN: Final = ("rtsp", "rtsps", "http", "https")
"""Schemes of sources that may want a user and a password."""
BROKER_PASSWORD: Final = "mqtt-password"  # noqa: S105 (the name of a file)
Keep = Callable[[str, str], None]
"""Takes the name of a file and the secret that it will hold."""


def node_name(default: str) -> str:
    """The name of this node."""
    return _asked("Name of this node", _node, default=default)


# ---- cameras ---------------------------------------------------------------------------------------


def camera_of(text: str, keep: Keep, *, ask: bool) -> NewCamera:
    """The camera that `--camera NAME=SOURCE` names; its password goes into a file.  Raises click.UsageError."""
    from edge.config.new_file import NewCamera

    name, equals, source = text.partition("=")
    if not equals or not name or not source:
        raise click.BadParameter(f"{text!r}: write NAME=SOURCE, for example top=/dev/video0", param_hint="--camera")
    source = GENERATED if source == "strip" else source
    _check({"cameras": [{"name": name, "source": source}]})
    return NewCamera(name, _with_login(source, name, keep, ask=ask))


def choose_cameras(keep: Keep, *, ask: bool, search: bool) -> list[NewCamera]:
    """Show what was found, and let the user choose by number, or write a source."""
    from edge.config.new_file import NewCamera

    found = _found(search=search)
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
        chosen.append(NewCamera(name, _with_login(source, name, keep, ask=True)))
    return chosen


def corrected_camera(camera: NewCamera, keep: Keep) -> NewCamera:
    """Ask once more for what may be wrong with a camera that did not open."""
    bare, user = _without_login(camera.source)
    source = _asked(f"Source of the camera {camera.name}", _source, default=bare)
    return replace(camera, source=_with_login(source, camera.name, keep, ask=True, user=user))


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
        if camera.host:
            return _asked("Its stream, with the path from its manual", _source, default=camera.source)
        return camera.source
    return word


def _with_login(source: str, name: str, keep: Keep, *, ask: bool, user: str = "") -> str:
    """The URL with a user and a reference to a file with the password, if the camera wants them.

    user: the default of the question.
    """
    from edge.host.url import SAFE_IN_LOGIN

    parts = urlsplit(source)
    if parts.scheme not in WITH_LOGIN or "${" in parts.netloc:
        return source
    login, password = parts.username, parts.password
    if login is None and ask:
        answer = click.prompt("Its user (empty: none)", default=user, show_default=bool(user))
        login = quote(answer, safe=SAFE_IN_LOGIN) or None
    if login is None or (password is None and not ask):
        return source
    secret = f"camera-{name}-password"
    keep(secret, click.prompt("Its password", hide_input=True) if password is None else unquote(password))
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{login}:${{file:{secret}}}@{host}"))


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


def with_broker(new: NewConfig, keep: Keep, folder: Path, *, ask: bool) -> NewConfig:
    """Ask for what the options did not name.  folder: of the configuration.  Raises click.UsageError."""
    given = None if new.broker is None else _checked_broker(new.broker)
    address = _broker(given or (_asked_broker("embedded") if ask else "embedded"))
    plain = _is_plain(address)
    if given is not None and plain and ask and not _agrees_to_plain():
        raise click.UsageError("write mqtts://HOST:8883")
    new = replace(new, broker=None if address == "embedded" else address, allow_plaintext=plain)
    if not ask or address.startswith("embedded"):
        return new
    note(f"at {address}")
    user = new.username or click.prompt("User at the broker (empty: none)", default="", show_default=False) or None
    return _with_broker_password(replace(new, username=user), keep, folder)


def corrected_broker(new: NewConfig, keep: Keep) -> NewConfig:
    """Ask once more for what may be wrong with a broker that did not answer."""
    address = _broker(_asked_broker(new.broker or "embedded"))
    if address.startswith("embedded"):
        return replace(new, broker=None if address == "embedded" else address, username=None, password_file=None)
    ca_file = None
    if address.startswith("mqtts:"):
        authority = click.prompt("Its CA certificate, a PEM file (empty: the system's)", default=new.ca_file or "")
        ca_file = authority or None
    user = click.prompt("User at the broker (empty: none)", default=new.username or "") or None
    new = replace(new, broker=address, allow_plaintext=_is_plain(address), ca_file=ca_file, username=user)
    return _with_broker_password(replace(new, password_file=None), keep, Path())


def _with_broker_password(new: NewConfig, keep: Keep, folder: Path) -> NewConfig:
    """Ask for the password, unless its file is there."""
    if new.username is None or (new.password_file is not None and (folder / new.password_file).exists()):
        return new
    name = new.password_file or BROKER_PASSWORD
    keep(name, click.prompt("Password at the broker", hide_input=True))
    return replace(new, password_file=name)


def _asked_broker(default: str) -> str:
    """An address; one without TLS to another machine only after a yes."""
    question = "Broker (mqtts://HOST:8883, mqtt://HOST:1883; embedded: a small one inside, to try)"
    while True:
        answer = _asked(question, _checked_broker, default=default)
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
