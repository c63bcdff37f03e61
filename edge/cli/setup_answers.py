"""Answers of a set-up in a JSON file, as the page gives them: no question is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from edge.cli.setup_files import SetupFiles
from edge.config import yaml_file
from edge.config.new_file import EMBEDDED, NewBroker, NewCamera, NewConfig
from edge.errors import ConfigError, Problem

MAX_CAMERAS: Final = 16
BROKER_SECRET: Final = "mqtt-password"  # noqa: S105 (the name of a file)
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]


class _Answers(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CameraAnswer(_Answers):
    """A camera that is added.  user, password: of its URL."""

    name: Name
    source: str
    user: str | None = None
    password: SecretStr | None = None


class BrokerAnswer(_Answers):
    """keeps_password: that of the present file."""

    address: str
    username: str | None = None
    password: SecretStr | None = None
    keeps_password: bool = False
    allow_plaintext: bool = False


class Answers(_Answers):
    """keep: cameras of the present file that stay.  broker: None: the present one stays."""

    node: str
    keep: list[Name] = []
    cameras: Annotated[list[CameraAnswer], Field(max_length=MAX_CAMERAS)] = []
    broker: BrokerAnswer | None = None

    def new_config(self, files: SetupFiles) -> NewConfig:
        """files: gets the secrets."""
        cameras = [NewCamera(one.name, _source(one, files)) for one in self.cameras]
        return NewConfig(self.node, cameras, _broker(self.broker, files), self.keep)


def read(path: Path) -> Answers:
    """Raises ConfigError, which repeats no value of the file."""
    try:
        return Answers.model_validate(yaml_file.read(path))
    except ValidationError as error:
        problems = (
            Problem(".".join(map(str, one["loc"])) or "the file", "(hidden)", one["msg"], "Correct it")
            for one in error.errors(include_input=False)
        )
        raise ConfigError(str(path), tuple(problems)) from None


def _source(camera: CameraAnswer, files: SetupFiles) -> str:
    if not camera.user:
        return camera.source
    secret = "" if camera.password is None else camera.password.get_secret_value()
    return files.with_login(camera.source, camera.name, camera.user, secret)


def _broker(broker: BrokerAnswer | None, files: SetupFiles) -> NewBroker | None:
    if broker is None:
        return None
    if broker.address == EMBEDDED:
        return NewBroker(EMBEDDED)
    secret = None
    if broker.password is not None:
        secret = files.keep_secret(BROKER_SECRET, broker.password.get_secret_value())
    return NewBroker(broker.address, broker.username, secret, broker.allow_plaintext, broker.keeps_password)
