"""The text of a new configuration file: only what differs from the defaults, with a comment where one helps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from edge.config import yaml_file

HEAD: Final = (
    "# Made by `defectd init`: only what differs from the defaults. `defectd check --schema` lists every key.\n"
)
MANUAL: Final = "# defectd: the default configuration, and the manual of every key."
"""The first line of the shipped config.yaml, which nobody may lose."""


@dataclass(frozen=True, slots=True)
class NewCamera:
    """A camera of the new file.  source: may refer to a secret by `${file:NAME}`."""

    name: str
    source: str
    mode: str = "strip"
    tile_px: int = 200


@dataclass(frozen=True, slots=True)
class NewConfig:
    """The answers.  broker: None for the embedded one.  password_file: beside the configuration."""

    node: str
    cameras: Sequence[NewCamera]
    broker: str | None = None
    username: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    allow_plaintext: bool = False
    state_dir: str = "./var"


def text_of(new: NewConfig) -> str:
    """The text of the file."""
    return HEAD + yaml_file.coded(content_of(new)).decode()


def content_of(new: NewConfig) -> dict[str, Any]:
    """The keys and values of the file."""
    mqtt: dict[str, Any] = {}
    if new.broker is not None:
        mqtt["broker"] = new.broker
        for key in ("username", "password_file", "ca_file"):
            if getattr(new, key) is not None:
                mqtt[key] = getattr(new, key)
        if new.allow_plaintext:
            mqtt["allow_plaintext"] = True
    cameras = []
    for camera in new.cameras:
        entry: dict[str, Any] = {"name": camera.name, "source": camera.source}
        if camera.mode != "strip":
            entry["mode"] = camera.mode
        if camera.tile_px != 200:
            entry["tile_px"] = camera.tile_px
        cameras.append(entry)
    return {"node": new.node, "state_dir": new.state_dir, **({"mqtt": mqtt} if mqtt else {}), "cameras": cameras}
