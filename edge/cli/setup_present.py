"""What a set-up finds: the present configuration without its secrets, and what a change of it means for the daemon."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from edge.cli.setup_files import SetupFiles, digest
from edge.config import yaml_file
from edge.errors import ConfigError

if TYPE_CHECKING:
    from edge.config import Config


def present(files: SetupFiles) -> dict[str, Any]:
    """The file as JSON values, for the page; of a file that cannot be read, the problem."""
    from edge import config
    from edge.camera.sources.registry import find
    from edge.host.redact import redact
    from edge.host.rights import nearest

    text = files.present()
    facts: dict[str, Any] = {
        "file": str(files.path),
        "sha256": digest(text),
        "can_write": os.access(nearest(files.folder), os.W_OK),
        "can_undo": files.before.exists(),
        "problem": None,
        "node": None,
        "broker": None,
        "username": None,
        "has_password": False,
        "cameras": [],
    }
    if text is None:
        return facts
    try:
        settings = config.load(files.path)
    except ConfigError as error:
        return {**facts, "problem": masked(str(error.problems[0]), files)}
    mqtt = settings.mqtt
    cameras = [(camera.name, camera.source.get_secret_value()) for camera in settings.cameras]
    return {
        **facts,
        "node": settings.node,
        "broker": mqtt.broker,
        "username": mqtt.username,
        "has_password": mqtt.password is not None or mqtt.password_file is not None,
        "cameras": [{"name": name, "source": redact(source), "kind": find(source).name} for name, source in cameras],
    }


def effect(files: SetupFiles, wanted: Config) -> dict[str, list[str]] | None:
    """What a running node takes over, and what needs a restart, as `defectd reload` reports it.

    None: the present file cannot be compared.
    """
    from edge import config
    from edge.camera.opening import OPENING_KEYS, needs_new_process
    from edge.camera.simulator_defaults import described
    from edge.config import diff

    try:
        running = config.load(files.path)
    except ConfigError:
        return None
    both = described(running), described(wanted)
    found = diff.compare(*both, opening_keys=OPENING_KEYS, needs_new_process=needs_new_process)
    return found.as_json()


def masked(text: str, files: SetupFiles) -> str:
    """The text without any secret of the present configuration; the new one only refers to its own."""
    from edge.monitoring.support_bundle import Masker, secrets_of

    try:
        secrets = secrets_of(yaml_file.read(files.path), files.folder, os.environ)
    except ConfigError:
        secrets = set()  # no file, or one that cannot be read: credentials in URLs are replaced all the same
    return Masker(secrets)(text)
