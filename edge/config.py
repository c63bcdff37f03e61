"""The configuration: one YAML file, checked whole before anything starts.

`config.yaml` at the top of the repository is the manual of every key; these models are the same keys with
their ranges. `load` either returns a frozen `Config` or raises a `ConfigError` that lists every problem.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from edge.errors import ConfigError, Problem

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
"""A part of a topic: no spaces, slashes, or MQTT wildcards."""
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(gt=0.0, le=86_400.0)]
RESERVED_CAMERA_NAMES = {"status", "cmd", "node"}
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class Model(_Section):
    bundle: str = Field("builtin", description="`builtin`, or the path of a bundle directory or zip")
    threads: int = Field(1, ge=1, le=64, description="threads of the ONNX Runtime session")
    batch: int = Field(32, ge=1, le=512, description="most tiles in one call of the network")


class Mqtt(_Section):
    broker: str = Field("embedded", description="`embedded`, `embedded:PORT`, mqtt://HOST:PORT or mqtts://HOST:PORT")
    topic_prefix: str = Field("defectd", pattern=r"^[^+#\s]{1,200}$", description="root of all topics")
    client_id: str | None = Field(None, max_length=128, description="MQTT client id; defectd-NODE when null")
    username: str | None = Field(None, description="user name at the broker")
    password: SecretStr | None = Field(None, description="password; better a reference: ${ENV} or ${file:PATH}")
    password_file: Path | None = Field(None, description="file that holds the password and nothing else")
    ca_file: Path | None = Field(None, description="PEM file of the authority that signed the broker's certificate")
    cert_file: Path | None = Field(None, description="PEM file of this node's client certificate")
    key_file: Path | None = Field(None, description="PEM file of this node's private key")
    allow_plaintext: bool = Field(False, description="allow mqtt:// to another machine: everything is readable")
    protocol: Literal["auto", "5", "3.1.1"] = Field("auto", description="MQTT version; auto tries 5, then 3.1.1")
    keepalive_s: int = Field(30, ge=2, le=3600, description="keepalive sent to the broker")
    inflight: int = Field(20, ge=1, le=1000, description="most events sent and not yet acknowledged")

    @field_validator("broker")
    @classmethod
    def _known_form(cls, value: str) -> str:
        embedded_port(value)
        if not value.startswith("embedded"):
            broker_address(value)
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Mqtt:
        if self.password and self.password_file:
            raise ValueError("password and password_file are both set; keep one of them")
        if (self.password or self.password_file) and not self.username:
            raise ValueError("a password is set but no username; set mqtt.username")
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file go together; set both or none")
        if not self.is_embedded:
            host, _, tls = broker_address(self.broker)
            if not tls and host not in LOOPBACK and not self.allow_plaintext:
                raise ValueError(
                    f"{host} would be reached without encryption; use mqtts://, or set mqtt.allow_plaintext: true"
                )
        return self

    @property
    def is_embedded(self) -> bool:
        return self.broker.startswith("embedded")

    @property
    def address(self) -> tuple[str, int, bool]:
        """Host, port, and whether TLS is used."""
        if self.is_embedded:
            return "127.0.0.1", embedded_port(self.broker), False
        return broker_address(self.broker)

    def read_password(self) -> str | None:
        """The password as it stands now; a file is read anew each time, so that it can be rotated."""
        if self.password_file:
            return self.password_file.read_text("utf-8").strip()
        return self.password.get_secret_value() if self.password else None


def embedded_port(broker: str) -> int:
    """Port of `embedded` or `embedded:PORT`; 1883 for anything else."""
    if broker == "embedded" or not broker.startswith("embedded"):
        return 1883
    port = broker.removeprefix("embedded:")
    if not port.isdigit() or not 1 <= int(port) <= 65_535:
        raise ValueError("`embedded:PORT` needs a port from 1 to 65535")
    return int(port)


def broker_address(url: str) -> tuple[str, int, bool]:
    """Host, port and TLS of an mqtt:// or mqtts:// URL.  Raises ValueError with the remedy."""
    form = "write `embedded`, mqtt://HOST:PORT or mqtts://HOST:PORT"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{error}; {form}") from None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
        raise ValueError(form)
    if parts.username or parts.password:
        raise ValueError("credentials do not belong into the URL; use mqtt.username and mqtt.password_file")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"nothing may follow the port; {form}")
    tls = parts.scheme == "mqtts"
    return parts.hostname, port or (8883 if tls else 1883), tls


class Outbox(_Section):
    max_rows: int = Field(100_000, ge=100, le=10_000_000, description="most undelivered events kept on disk")
    keep_delivered: int = Field(1_000, ge=0, le=1_000_000, description="delivered events kept for `defectd events`")
    durability: Literal["full", "normal"] = Field("full", description="full: each commit survives power loss")


class Log(_Section):
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severity that is logged")
    format: Literal["auto", "plain", "json"] = Field("auto", description="auto: plain on a terminal, else JSON")


class Decision(_Section):
    confidence: Share = Field(0.6, description="probability from which a tile is a defect")
    unsure: Share = Field(0.35, description="from here to `confidence` a tile is unsure, below it is good")
    classes: dict[str, Share] = Field({}, description="`confidence` of single classes, by name")
    confirm_frames: int = Field(2, ge=1, le=1000, description="k: sightings that confirm a defect")
    confirm_window: int = Field(3, ge=1, le=1000, description="n: frames within which they must fall")
    close_frames: int = Field(3, ge=1, le=10_000, description="frames without a sighting that close a defect")
    max_shift_px: int | None = Field(None, ge=0, le=100_000, description="most travel per frame; one tile when null")

    @model_validator(mode="after")
    def _ordered(self) -> Decision:
        if self.unsure > self.confidence:
            raise ValueError(f"unsure ({self.unsure}) is above confidence ({self.confidence}); lower it")
        for name, value in self.classes.items():
            if value < self.unsure:
                raise ValueError(f"classes.{name} ({value}) is below unsure ({self.unsure}); raise it")
        if self.confirm_frames > self.confirm_window:
            raise ValueError(
                f"confirm_frames ({self.confirm_frames}) can never be reached in confirm_window "
                f"({self.confirm_window}) frames; lower the first or raise the second"
            )
        return self


Rectangle = tuple[
    Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]
]
Point = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
Polygon = Annotated[tuple[Point, ...], Field(min_length=3, max_length=64)]


class Camera(_Section):
    name: Name = Field(description="part of the camera's topics")
    source: SecretStr = Field(description="device, stream, recording or `strip:`; may hold credentials")
    enabled: bool = Field(True, description="false: the camera is left out")
    fps: float | None = Field(
        None, ge=0.0, le=10_000.0, description="asked of a device; paces recordings and the strip (0: unpaced)"
    )
    loop: bool = Field(False, description="recordings start again at their end")
    live: bool | None = Field(None, description="false: frames wait instead of being dropped or late; null: by source")
    mode: Literal["strip", "parts"] = Field("strip", description="strip: tracked surface; parts: each frame alone")
    budget_ms: float = Field(20.0, gt=0.0, le=60_000.0, description="from grab to verdict")
    roi: Rectangle | Polygon | None = Field(None, description="[x, y, w, h] or [[x, y], ...] in px; null: whole frame")
    tile_px: int = Field(200, ge=16, le=8192, description="side of a tile in the frame")
    overlap: float = Field(0.1, ge=0.0, le=0.9, description="least share of a tile that its neighbour covers too")
    decision: Decision = Field(Decision(), description="this camera's own values over the top-level `decision`")
    ring_frames: int = Field(8, ge=2, le=256, description="frames that wait in memory; the oldest goes when full")
    width: int | None = Field(None, ge=16, le=32_768, description="asked of a device")
    height: int | None = Field(None, ge=16, le=32_768, description="asked of a device")
    pixel_format: Annotated[str, Field(pattern=r"^[A-Za-z0-9 ]{4}$")] | None = Field(
        None, description="four-letter code asked of a device, such as MJPG or GREY"
    )
    exposure: float | None = Field(None, description="asked of a device, in the driver's unit; null: automatic")
    gain: float | None = Field(None, description="asked of a device, in the driver's unit; null: automatic")
    rtsp_transport: Literal["tcp", "udp"] = Field("tcp", description="how RTSP carries the picture")
    open_timeout_s: float = Field(3.0, gt=0.0, le=120.0, description="a source that does not open by then has failed")
    read_timeout_s: float = Field(2.0, gt=0.0, le=120.0, description="a read slower than this has failed")

    @field_validator("source", mode="before")
    @classmethod
    def _index_is_a_source(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("source")
    @classmethod
    def _not_empty(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().strip():
            raise ValueError("is empty; give a device index, a path, a URL, or `strip:`")
        return value

    @field_validator("roi", mode="wrap")
    @classmethod
    def _one_message_for_a_region(cls, value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        try:
            return check(value)
        except ValidationError:
            raise ValueError("should be [x, y, w, h] with w and h above 0, or three or more corners [x, y]") from None

    @field_validator("name")
    @classmethod
    def _not_a_topic_of_ours(cls, value: str) -> str:
        if value in RESERVED_CAMERA_NAMES:
            raise ValueError(f"{value!r} is a topic of the node itself; choose another name")
        return value


class Config(_Section):
    node: Name = Field(description="this box's name; part of every topic")
    state_dir: Path = Field(Path("./var"), description="events, evidence, calibration; relative to the file")
    report_s: Seconds = Field(10.0, description="seconds between report lines and coverage messages")
    log: Log = Log()
    model: Model = Model()
    mqtt: Mqtt = Mqtt()
    outbox: Outbox = Outbox()
    decision: Decision = Decision()
    cameras: Annotated[tuple[Camera, ...], Field(min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _names_differ(self) -> Config:
        seen: set[str] = set()
        for camera in self.cameras:
            if camera.name in seen:
                raise ValueError(f"cameras: the name {camera.name!r} stands twice; rename one")
            seen.add(camera.name)
        return self

    @property
    def active_cameras(self) -> tuple[Camera, ...]:
        return tuple(c for c in self.cameras if c.enabled)

    @property
    def sha256(self) -> str:
        """Hash of everything that was set, without the secrets: events carry it."""
        dump = self.model_dump(mode="json", exclude={"mqtt": {"password"}})
        for kept, camera in zip(dump["cameras"], self.cameras, strict=True):
            kept["source"] = redact(camera.source.get_secret_value())
        return hashlib.sha256(json.dumps(dump, sort_keys=True).encode()).hexdigest()


_USERINFO = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/?#\s]*@", re.IGNORECASE)


def redact(text: str) -> str:
    """The text with user names and passwords of URLs blotted out: for logs, events and errors."""
    return _USERINFO.sub(r"\g<scheme>***@", text)


def load(path: Path, env: Mapping[str, str] | None = None) -> Config:
    """Read and check a configuration file.  Relative paths in it are relative to its directory.

    Raises ConfigError with all problems found.
    """
    origin = str(path)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        allowed = f"cannot be read: {error}"
        raise _refusal(origin, "file", str(path), allowed, "Give a readable YAML file with -c") from error
    try:
        raw = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 (a SafeLoader that refuses double keys)
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise _refusal(origin, "file", str(path), f"is not YAML: {where}", "Mend the line named") from error
    return parse(raw, origin=origin, base=path.resolve().parent, env=os.environ if env is None else env)


def parse(raw: object, *, origin: str, base: Path, env: Mapping[str, str]) -> Config:
    """Check a configuration that was read already.  base: what relative paths are relative to."""
    if not isinstance(raw, dict):
        raise _refusal(origin, "file", type(raw).__name__, "must be a mapping of keys", "See config.yaml for every key")
    problems: list[Problem] = []
    filled = _fill(raw, "", env, base, problems)
    _inherit_decision(filled)
    try:
        config = Config.model_validate(filled)
    except ValidationError as error:
        problems += [_problem(details, filled) for details in _told_once(error.errors())]
        raise ConfigError(origin, tuple(problems)) from None
    if problems:
        raise ConfigError(origin, tuple(problems))
    return _anchored(config, base)


class _StrictLoader(yaml.SafeLoader):
    """YAML without the silent loss of a key that stands twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 (PyYAML's)
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


_REFERENCE = re.compile(r"\$\{(?P<what>[^}]*)\}")


def _fill(value: Any, key: str, env: Mapping[str, str], base: Path, problems: list[Problem]) -> Any:
    """Replace ${NAME}, ${NAME:-default} and ${file:PATH} in every string."""
    if isinstance(value, dict):
        return {k: _fill(v, f"{key}.{k}" if key else str(k), env, base, problems) for k, v in value.items()}
    if isinstance(value, list):
        return [_fill(v, f"{key}[{i}]", env, base, problems) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        what = match["what"]
        if what.startswith("file:"):
            path = base / what.removeprefix("file:")
            try:
                return path.read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                allowed, remedy = f"the file cannot be read: {error}", f"Create {path}, readable by this user"
                problems.append(Problem(key, match[0], allowed, remedy))
                return ""
        name, has_default, default = what.partition(":-")
        if name in env:
            return env[name]
        if not has_default:
            remedy = f"Set {name}, or write ${{{name}:-default}}"
            problems.append(Problem(key, match[0], "the environment variable is not set", remedy))
        return default

    return _REFERENCE.sub(replace, value)


def _inherit_decision(raw: dict[Any, Any]) -> None:
    """Lay each camera's `decision` over the top-level one."""
    common = raw.get("decision")
    cameras = raw.get("cameras")
    if not isinstance(common, dict) or not isinstance(cameras, list):
        return
    for camera in cameras:
        if isinstance(camera, dict) and isinstance(camera.get("decision", {}), dict):
            camera["decision"] = {**common, **camera.get("decision", {})}


def _anchored(config: Config, base: Path) -> Config:
    """The configuration with relative paths made absolute."""

    def absolute(path: Path | None) -> Path | None:
        return None if path is None else base / path.expanduser()

    names = ("password_file", "ca_file", "cert_file", "key_file")
    files = {name: absolute(getattr(config.mqtt, name)) for name in names}
    model = config.model
    if model.bundle != "builtin":
        model = model.model_copy(update={"bundle": str(absolute(Path(model.bundle)))})
    return config.model_copy(
        update={
            "state_dir": absolute(config.state_dir),
            "mqtt": config.mqtt.model_copy(update=files),
            "model": model,
            "cameras": tuple(
                c.model_copy(update={"source": SecretStr(anchored_source(c.source.get_secret_value(), base))})
                for c in config.cameras
            ),
        }
    )


def anchored_source(source: str, base: Path) -> str:
    """A relative file, folder or glob made absolute; devices and URLs stay as they are."""
    if source.isdigit() or source.startswith("strip:") or "://" in source:
        return source
    return str(base / Path(source).expanduser())


# ---- messages ------------------------------------------------------------------------------------


def _refusal(origin: str, key: str, value: str, allowed: str, remedy: str) -> ConfigError:
    return ConfigError(origin, (Problem(key, value, allowed, remedy),))


def _told_once(errors: Sequence[Any]) -> list[Any]:
    """The errors without those that only follow from an error inside the same list."""

    def follows(details: Any) -> bool:
        depth = len(details["loc"])
        inside = (other["loc"] for other in errors if len(other["loc"]) > depth)
        return details["type"] == "too_short" and any(loc[:depth] == details["loc"] for loc in inside)

    return [details for details in errors if not follows(details)]


def _problem(details: Any, raw: Any) -> Problem:
    """One pydantic error as key, value, allowed range and remedy."""
    path = tuple(p for p in details["loc"] if not (isinstance(p, str) and ("[" in p or p in ("tuple", "int"))))
    key = _dotted(path) or "file"
    kind = details["type"]
    secret = path[-1:] in (("password",), ("source",))
    value = "(hidden)" if secret else _shown(_dig(raw, path))
    if kind == "extra_forbidden":
        section = _section_at(path[:-1])
        known = [] if section is None else list(section.model_fields)
        close = difflib.get_close_matches(str(path[-1]), known, n=1)
        remedy = f"Write {close[0]!r}" if close else "Remove it"
        return Problem(key, value, f"unknown key; known here: {', '.join(known)}", remedy)
    allowed = re.sub(r"^(Input|String|Tuple) should", "should", str(details["msg"]).removeprefix("Value error, "))
    if kind == "missing":
        value, allowed = "missing", "the key is required"
    return Problem(key, value, allowed, _remedy(path, kind))


def _remedy(path: tuple[Any, ...], kind: str) -> str:
    section = _section_at(path[:-1])
    field = section.model_fields.get(str(path[-1])) if section and path else None
    if field is None or not field.description:
        return "See config.yaml for every key"
    if kind == "missing" or field.is_required():
        return f"Set it: {field.description}"
    default = field.get_default(call_default_factory=True)
    shown = "null" if default is None else default
    return f"It means: {field.description} (default {shown})"


def _section_at(path: tuple[Any, ...]) -> type[BaseModel] | None:
    """The model that the keys at `path` belong to."""
    section: type[BaseModel] = Config
    for part in path:
        if isinstance(part, int):
            continue
        field = section.model_fields.get(str(part))
        inner = None if field is None else _model_in(field.annotation)
        if inner is None:
            return None
        section = inner
    return section


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (tuple, types.UnionType, typing.Union):
        for part in typing.get_args(annotation):
            found = _model_in(part)
            if found:
                return found
    return None


def _dotted(path: tuple[Any, ...]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _dig(raw: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return None
    return raw


def _shown(value: Any, limit: int = 60) -> str:
    if isinstance(value, dict):
        return "a mapping"
    text = redact(repr(value))
    return text if len(text) <= limit else text[: limit - 3] + "..."


def json_schema() -> dict[str, Any]:
    """JSON Schema of the file, for editors."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "defectd configuration", **schema}
