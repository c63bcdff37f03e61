"""Types of values that configuration keys share, and the base of every section.

A path is known by its type: `edge.config.loader` makes every value of a type with a `PathKey` absolute.
"""

from __future__ import annotations

import base64
import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from edge.config.yaml_file import CREDENTIAL
from edge.host import url

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
"""A part of a topic: no spaces, slashes, or MQTT wildcards."""
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(gt=0.0, le=86_400.0)]
TILE_PX = (16, 8192)
MAX_ZONES = 32
"""Zones of a camera that are not inspected."""
MAX_PIXEL = 65_535
"""Beyond any sensor, and small enough for OpenCV's drawing."""
Coordinate = Annotated[int, Field(ge=0, le=MAX_PIXEL)]
Length = Annotated[int, Field(gt=0, le=MAX_PIXEL)]
Rectangle = tuple[Coordinate, Coordinate, Length, Length]
Point = tuple[Coordinate, Coordinate]
Polygon = Annotated[tuple[Point, ...], Field(min_length=3, max_length=64)]


def check_path(value: Any) -> Any:
    """A text as a path, with ~ resolved.  Raises ValueError for one that cannot be a path."""
    if not isinstance(value, str):
        return value
    if not value or "\0" in value:
        raise ValueError("is not a path; leave the key out, or give one")
    if value.startswith(CREDENTIAL) and not re.fullmatch(r"[\w.-]+", value.removeprefix(CREDENTIAL)):
        raise ValueError("is not a credential; write credential:NAME, with the NAME of a LoadCredential= of the unit")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError("starts with ~, but there is no such home directory; write the whole path") from None


def check_source(source: str) -> str:
    """A camera's source.  Raises ValueError, with no part of it, for one that cannot be a device, a URL or a path."""
    if not source:
        raise ValueError("is empty; give a device index, a path, a URL, or `strip:`")
    if re.fullmatch("-[0-9]+", source):
        raise ValueError("is below 0; the first device is 0")
    if not is_device_or_url(source):
        check_path(source)
        return source
    if re.search(r"[\s\x00-\x1f]", source):
        raise ValueError("is a URL with a space or line end in it; write %20 and so on")
    try:
        url.split(source)
    except ValueError as error:
        raise ValueError(
            f"{error}; correct host and port. In a password write %23 for #, %2F for /, %3F for ?, %40 for @, %5B for "
            "[, or take it from ${file:PATH}, which may hold any text"
        ) from None
    return source


Locate = Callable[[str], Path]
"""Makes the text of a path absolute: relative to the configuration's folder, or a credential of the unit."""


@dataclass(frozen=True, slots=True)
class PathKey:
    """Marks the type of a key whose value is a path, or may be one.  anchored: makes the path in a value absolute."""

    anchored: Callable[[Any, Locate], Any]


def _anchored_bundle(value: str, locate: Locate) -> str:
    return value if value == BUILTIN else str(locate(value))


def _anchored_source(value: SecretStr, locate: Locate) -> SecretStr:
    source = value.get_secret_value()
    return value if is_device_or_url(source) else SecretStr(str(locate(str(Path(source).expanduser()))))


def is_device_or_url(source: str) -> bool:
    """Whether a camera's source is not a file, folder or pattern.

    By its form alone: a number, or a scheme of two letters or more before a colon.  All else is a path.
    """
    return re.match(r"[0-9]+\Z|[A-Za-z][A-Za-z0-9+.-]+:", source) is not None


BUILTIN = "builtin"
"""Name of the bundle inside the package."""
File = Annotated[Path, BeforeValidator(check_path), PathKey(lambda value, locate: locate(str(value)))]
BundlePath = Annotated[str, AfterValidator(lambda value: str(check_path(value))), PathKey(_anchored_bundle)]
"""`builtin`, or the path of a bundle."""
Source = Annotated[SecretStr, PathKey(_anchored_source)]
"""A device, a URL, or the path of a recording."""


class Section(BaseModel):
    """Base of every section: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_switch_for_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML's yes, no, on and off are true and false; Python would take them for 1 and 0."""
        expected = cls.model_fields[str(info.field_name)].annotation
        if bool not in (expected, *typing.get_args(expected)) and model_in(expected) is None and _has_switch(value):
            raise ValueError("true, false, yes, no, on, off are switches; write a number, or a text in quotes")
        return value


class Listener(Section):
    """A section of a server of this node."""

    listen: str | None

    @field_validator("listen")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None:
            host, _, port = value.rpartition(":")
            if not host or not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65_535:
                raise ValueError("write HOST:PORT with a port from 1 to 65535, or null")
        return value

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port, or None."""
        if self.listen is None:
            return None
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


def _has_switch(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_switch(inner) for inner in value.values())
    if isinstance(value, list | tuple):
        return any(_has_switch(inner) for inner in value)
    return isinstance(value, bool)


def _public_key(value: str) -> str:
    try:
        is_key = len(base64.b64decode(value, validate=True)) == 32
    except ValueError:
        is_key = False
    if not is_key:
        raise ValueError("should be a public key as `defectd model keygen` prints it: base64 of 32 bytes")
    return value


PublicKey = Annotated[str, AfterValidator(_public_key)]


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The section of the configuration that a type holds, if any."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (tuple, types.UnionType, typing.Union):
        for part in typing.get_args(annotation):
            found = model_in(part)
            if found:
                return found
    return None
