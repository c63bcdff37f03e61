"""The text of a configuration that a set-up makes: a new file with what differs from the defaults, or a changed one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from edge.config import yaml_edit, yaml_file
from edge.config.yaml_edit import Place

HEAD: Final = (
    "# Made by `defectd init`: only what differs from the defaults. `defectd check --schema` lists every key.\n"
)
MANUAL: Final = "# defectd: the default configuration, and the manual of every key."
"""The first line of the shipped config.yaml, which nobody may lose."""
EMBEDDED: Final = "embedded"


@dataclass(frozen=True, slots=True)
class NewCamera:
    """A camera of the new file.  source: may refer to a secret by `${file:NAME}`."""

    name: str
    source: str
    mode: str = "strip"
    tile_px: int = 200


@dataclass(frozen=True, slots=True)
class NewBroker:
    """A broker and its login.  password_file: beside the configuration.

    keeps_password: of the present file, for the same user.  ca_file: None: as it is.
    """

    address: str
    username: str | None = None
    password_file: str | None = None
    allow_plaintext: bool = False
    keeps_password: bool = False
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class NewConfig:
    """The answers.  kept: cameras of the present file that stay as they are, before the new ones.

    broker: None: that of the present file; in a new file, the embedded one.
    """

    node: str
    cameras: Sequence[NewCamera]
    broker: NewBroker | None = None
    kept: Sequence[str] = ()


def text_of(new: NewConfig, before: str | None = None) -> str:
    """The text of the file.  before: the present text, whose other sections and comments stay.  Raises ConfigError."""
    if before is None:
        return HEAD + yaml_file.coded(content_of(new)).decode()
    return yaml_edit.changed(before, changes(new, _mapping(before)))


def content_of(new: NewConfig) -> dict[str, Any]:
    """The keys and values of a new file."""
    mqtt = {key: value for (_, key), value in _broker_changes(new.broker, {}).items() if value is not None}
    cameras = [_entry(camera) for camera in new.cameras]
    return {"node": new.node, "state_dir": "./var", **({"mqtt": mqtt} if mqtt else {}), "cameras": cameras}


def changes(new: NewConfig, before: Mapping[str, Any]) -> dict[Place, Any]:
    """What the answers change in the present content."""
    found: dict[Place, Any] = {} if before.get("node") == new.node else {("node",): new.node}
    mqtt = before.get("mqtt")
    found |= _broker_changes(new.broker, mqtt if isinstance(mqtt, dict) else {})
    present = before.get("cameras")
    entries = [one for one in present if isinstance(one, dict)] if isinstance(present, list) else []
    kept = [one for one in entries if one.get("name") in new.kept]
    cameras = [*kept, *(_entry(camera) for camera in new.cameras)]
    return found if cameras == present else found | {("cameras",): cameras}


def _entry(camera: NewCamera) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": camera.name, "source": camera.source}
    if camera.mode != "strip":
        entry["mode"] = camera.mode
    if camera.tile_px != 200:
        entry["tile_px"] = camera.tile_px
    return entry


def _broker_changes(broker: NewBroker | None, mqtt: Mapping[str, Any]) -> dict[Place, Any]:
    """Keys of the section that get another value than they have now."""
    if broker is None:
        return {}
    wanted: dict[str, Any] = {"broker": broker.address, "username": broker.username}
    if not broker.keeps_password:
        wanted |= {"password": None, "password_file": broker.password_file}
    if broker.ca_file is not None:
        wanted["ca_file"] = broker.ca_file
    wanted["allow_plaintext"] = broker.allow_plaintext
    usual = {"broker": EMBEDDED, "allow_plaintext": False}
    present = {key: mqtt.get(key, usual.get(key)) for key in wanted}
    return {("mqtt", key): value for key, value in wanted.items() if value != present[key]}


def _mapping(text: str) -> Mapping[str, Any]:
    content = yaml_file.parsed(text.encode(), yaml_edit.ORIGIN)
    return content if isinstance(content, dict) else {}
