"""The configuration's keys: one frozen model for each section of the file, with ranges and defaults.

`config.yaml` at the top of the repository is the manual of every key. `edge.config.loader` reads a file into these
models; `edge.config.messages` words what is wrong with it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from edge.config import secret_file
from edge.config.broker_address import broker_address, embedded_port, is_loopback
from edge.config.camera_calibration import CameraCalibration
from edge.config.grading import Product, Roll
from edge.config.state_dir import StateDir
from edge.config.strip_sections import Coils, Lane, StripWidth, Travel, side_by_side
from edge.config.value_types import (
    BUILTIN,
    MAX_PIXEL,
    MAX_ZONES,
    TILE_PX,
    BundlePath,
    File,
    Listener,
    Name,
    Polygon,
    PublicKey,
    Rectangle,
    Seconds,
    Section,
    Share,
    Source,
    check_source,
)
from edge.config.web import Web
from edge.host.redact import redact

RESERVED_CAMERA_NAMES = {"status", "cmd", "node"}


class Shadow(Section):
    bundle: BundlePath = Field(description="path of a bundle directory or zip")
    share: float = Field(0.1, gt=0.0, le=1.0, description="share of the frames that it also inspects, time permitting")


class Model(Section):
    bundle: BundlePath = Field(BUILTIN, description="`builtin`, or the path of a bundle directory or zip")
    threads: int | None = Field(
        None, ge=1, le=64, description="threads of the ONNX Runtime session; null: by `calibrate latency`, or 1"
    )
    batch: int | None = Field(
        None,
        ge=1,
        le=512,
        description="largest number of tiles in one call of the network; null: by `calibrate latency`, or 32",
    )
    precision: Literal["auto", "fp32", "int8"] = Field(
        "auto", description="network of the bundle; auto: by `calibrate latency`, or int8 where correct and faster"
    )

    trusted_keys: list[PublicKey] = Field(
        [],
        max_length=16,
        description="Ed25519 public keys whose bundles may be installed; see `defectd model keygen`",
    )
    allow_unsigned: bool = Field(False, description="unsigned bundles may be installed too")
    keep: int = Field(
        5, ge=2, le=100, description="installed bundles that are kept; the active and the previous one always stay"
    )
    keep_mb: int = Field(200, ge=1, le=10_000, description="MB of installed bundles")
    canary_s: float = Field(
        600.0, ge=0.0, le=604_800.0, description="how long a new model is watched as a canary, at least"
    )
    shadow: Shadow | None = Field(None, description="a second model that runs in shadow mode and never decides")


class Mqtt(Section):
    broker: str = Field("embedded", description="`embedded`, `embedded:PORT`, mqtt://HOST:PORT or mqtts://HOST:PORT")
    topic_prefix: str = Field(
        "defectd", max_length=200, pattern=r"^[^$/+#\s\x00-\x1f][^+#\s\x00-\x1f]*$", description="root of all topics"
    )
    client_id: str | None = Field(None, min_length=1, max_length=128, description="MQTT client id; null: defectd-NODE")
    username: str | None = Field(None, description="user name at the broker")
    password: SecretStr | None = Field(None, description="password; a reference is safer: ${ENV} or ${file:PATH}")
    password_file: File | None = Field(None, description="file that holds only the password, or credential:NAME")
    ca_file: File | None = Field(None, description="PEM file of the authority that signed the broker's certificate")
    cert_file: File | None = Field(None, description="PEM file of this node's client certificate")
    key_file: File | None = Field(None, description="PEM file of this node's private key")
    allow_plaintext: bool = Field(False, description="allow mqtt:// to another machine, without encryption")
    protocol: Literal["auto", "5", "3.1.1"] = Field("auto", description="MQTT version; auto tries 5, then 3.1.1")
    keepalive_s: int = Field(30, ge=2, le=3600, description="interval of keepalives to the broker")
    inflight: int = Field(20, ge=1, le=1000, description="maximum number of events sent and not yet acknowledged")

    @field_validator("protocol", mode="before")
    @classmethod
    def _version_may_be_a_number(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @field_validator("broker")
    @classmethod
    def _has_known_form(cls, value: str) -> str:
        embedded_port(value)
        if not value.startswith("embedded"):
            broker_address(value)
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> Mqtt:
        wrong = []
        if self.password and self.password_file:
            wrong.append("password and password_file are both set; keep one of them")
        if (self.password or self.password_file) and not self.username:
            wrong.append("a password is set but no username; set mqtt.username")
        if bool(self.cert_file) != bool(self.key_file):
            wrong.append("cert_file and key_file go together; set both or neither")
        if not self.is_embedded:
            host, _, tls = broker_address(self.broker)
            if not tls and not is_loopback(host) and not self.allow_plaintext:
                wrong.append(
                    f"the connection to {host} would not be encrypted; use mqtts://, or set mqtt.allow_plaintext: true"
                )
        if wrong:
            raise ValueError("; also, ".join(wrong))
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
        """The current password; a file is read anew each time, so that the password can be rotated."""
        if self.password_file:
            return secret_file.text_of(self.password_file.read_text("utf-8"))
        return self.password.get_secret_value() if self.password else None


SparkplugId = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^+/#\x00-\x1f\x7f]+$")]
"""A part of a Sparkplug topic.  Source: tck-id-topic-structure-namespace-valid-group-id, -valid-edge-node-id."""


class Sparkplug(Section):
    enabled: bool = Field(False, description="also publish this node as a Sparkplug B edge node")
    broker: str | None = Field(None, description="mqtt:// or mqtts:// address; null: the broker of `mqtt`")
    username: str | None = Field(
        None, description="user name at that broker; null: that of `mqtt`, if it is the same broker"
    )
    password_file: File | None = Field(None, description="file that holds the password of that user")
    group_id: SparkplugId = Field("defectd", description="second part of every topic, for example the plant")
    edge_node_id: SparkplugId | None = Field(None, description="fourth part of every topic; null: the name of the node")
    primary_host: SparkplugId | None = Field(
        None, description="publish only while this host is online; null: always publish"
    )
    legacy_state: bool = Field(
        False, description="true: that host publishes ONLINE on STATE/HOST, as before Sparkplug 3.0"
    )
    resend_s: float | None = Field(
        None, ge=0.0, le=3600.0, description="how far back events are resent after an outage; null: 2 keepalives"
    )

    @field_validator("broker")
    @classmethod
    def _has_known_form(cls, value: str | None) -> str | None:
        if value is not None:
            broker_address(value)
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> Sparkplug:
        if self.password_file and not self.username:
            raise ValueError("a password is set but no username; set sparkplug.username")
        if self.legacy_state and not self.primary_host:
            raise ValueError("legacy_state needs a primary host; set sparkplug.primary_host")
        return self

    def connection(self, mqtt: Mqtt) -> Mqtt:
        """How this output connects: as `mqtt`, except for the keys that are set here.  Raises ValueError as `mqtt`."""
        changes: dict[str, Any] = {}
        if self.broker is not None:
            changes = {"broker": self.broker, "username": None, "password": None, "password_file": None}
        if self.username is not None:
            changes |= {"username": self.username, "password": None, "password_file": self.password_file}
        return Mqtt.model_validate({**{name: getattr(mqtt, name) for name in Mqtt.model_fields}, **changes})


class Outbox(Section):
    max_rows: int = Field(
        100_000, ge=100, le=10_000_000, description="maximum number of undelivered events kept on disk"
    )
    max_mb: int = Field(256, ge=1, le=100_000, description="maximum payload of undelivered events kept on disk, MiB")
    keep_delivered: int = Field(1_000, ge=0, le=1_000_000, description="delivered events kept for `defectd events`")
    durability: Literal["full", "normal"] = Field("full", description="full: each commit survives power loss")


Verb = Literal[
    "ping",
    "state",
    "snapshot",
    "pause",
    "resume",
    "set",
    "reload",
    "dead-letters",
    "evidence",
    "model",
    "coil",
    "coil-release",
]
ReplyPrefix = Annotated[str, Field(max_length=200, pattern=r"^[^$/+#\s\x00-\x1f][^+#\s\x00-\x1f]*[^/+#\s\x00-\x1f]$")]


class Commands(Section):
    allow: list[Verb] = Field(["ping", "state"], description="commands that are carried out; all others are refused")
    reply_prefixes: list[ReplyPrefix] = Field(
        [], max_length=32, description="prefixes that a response topic may have, besides this node's own"
    )
    rate_per_s: float = Field(5.0, ge=0.1, le=100.0, description="maximum commands per second, after a burst of 10")


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest severity that is logged")
    format: Literal["auto", "plain", "json"] = Field("auto", description="auto: plain where a terminal is, else JSON")


class Metrics(Listener):
    listen: str | None = Field("127.0.0.1:9464", description="HOST:PORT of the Prometheus endpoint; null: none")


class Evidence(Section):
    enabled: bool = Field(True, description="keep pictures of defects and tiles for labelling")
    dir: File | None = Field(None, description="folder for the pictures of this node only; null: state_dir/evidence")
    max_mb: int = Field(256, ge=1, le=1_000_000, description="maximum size of all pictures, MiB")
    min_free_mb: int = Field(256, ge=1, le=1_000_000, description="space that stays free on that disk, MiB")
    tiles_mb: int = Field(0, ge=0, le=1_000_000, description="part of max_mb that is reserved for tiles, MiB")
    frames: bool = Field(False, description="also keep the whole frame of each defect")
    quality: int = Field(85, ge=10, le=100, description="JPEG quality of pictures of events; tiles have 95")
    longest_px: int = Field(1600, ge=64, le=8192, description="pictures with a longer side are reduced to this")
    per_minute: int = Field(120, ge=1, le=100_000, description="maximum number of pictures per minute")
    unsure_per_hour: float = Field(30.0, ge=0.0, le=36_000.0, description="unsure tiles kept for each camera; 0: none")
    shadow_per_hour: float = Field(
        20.0,
        ge=0.0,
        le=3600.0,
        description="tiles about which the shadow model disagrees, kept for each camera; 0: none",
    )
    audit_per_hour: float = Field(
        6.0, ge=0.0, le=36_000.0, description="random tiles kept for each camera, whatever they show; 0: none"
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Evidence:
        if self.tiles_mb > self.max_mb:
            raise ValueError(f"tiles_mb ({self.tiles_mb}) is above max_mb ({self.max_mb}); lower it")
        return self


class Decision(Section):
    confidence: Share = Field(0.6, description="probability from which a tile is a defect")
    unsure: Share = Field(0.35, description="from here to `confidence` a tile is unsure, below it is good")
    classes: dict[str, Share] = Field({}, description="`confidence` of single classes, by name")
    confirm_frames: int = Field(2, ge=1, le=1000, description="detections that confirm a defect")
    confirm_window: int = Field(3, ge=1, le=1000, description="number of frames within which confirm_frames must fall")
    close_frames: int = Field(3, ge=1, le=10_000, description="frames without a detection that close a defect")
    max_shift_px: int | None = Field(None, ge=0, le=100_000, description="maximum travel per frame; null: one tile")

    @model_validator(mode="after")
    def _ordered(self) -> Decision:
        if self.unsure > self.confidence:
            raise ValueError(f"unsure ({self.unsure}) is above confidence ({self.confidence}); lower it")
        for name, value in self.classes.items():
            if value < self.unsure:
                raise ValueError(f"classes.{name} ({value}) is below unsure ({self.unsure}); raise it")
        if self.confirm_frames > self.confirm_window:
            raise ValueError(
                f"confirm_frames ({self.confirm_frames}) cannot be reached within confirm_window "
                f"({self.confirm_window}) frames; lower the first or raise the second"
            )
        return self


class ImageQuality(Section):
    enabled: bool = Field(True, description="check every picture before it is inspected")
    frozen: bool | None = Field(None, description="identical pictures are a fault; null: for devices and streams only")
    min_fault_s: float = Field(
        1.5, ge=0.0, le=3600.0, description="how long frozen, blurred and shifted must last to count"
    )
    dark: float = Field(6.0, ge=0.0, le=255.0, description="mean gray below which a picture is dark")
    bright: float = Field(249.0, ge=0.0, le=255.0, description="mean gray above which a picture is saturated")
    focus: Share = Field(
        0.7, description="share of the camera's usual sharpness below which a picture is blurred; 0: never"
    )
    shift: float = Field(
        0.1, ge=0.0, le=0.5, description="displacement that counts as shifted, as a share of the width; 0: never"
    )
    damage: bool = Field(True, description="detect torn and corrupted pictures")

    @model_validator(mode="after")
    def _ordered(self) -> ImageQuality:
        if self.dark >= self.bright:
            raise ValueError(f"dark ({self.dark:g}) is not below bright ({self.bright:g}); lower it")
        return self


Numbers9 = Annotated[tuple[float, ...], Field(min_length=9, max_length=9)]


class Scale(Section):
    mm_per_px: float = Field(gt=0.0, le=1000.0, description="mm per pixel on the strip, in the middle of the frame")
    lens: Numbers9 | None = Field(
        None, description="lens model fx, fy, cx, cy, k1, k2, p1, p2, k3; by `calibrate scale`"
    )
    plane: Numbers9 | None = Field(
        None, description="homography from undistorted px to mm, row by row; by `calibrate scale`"
    )


class CalibratedThresholds(Section):
    bundle: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = Field(
        None, description="sha256 of the card of the bundle that they apply to; null: any"
    )
    tile_px: int | None = Field(None, description="side of the tiles that they apply to; null: any")
    temperature: float | None = Field(
        None, gt=0.0, le=1000.0, description="temperature of the softmax; null: the bundle's"
    )
    taught: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = Field(
        None, description="sha256 of the taught classes that they apply to; null: the bundle's own"
    )
    classes: dict[str, Share] = Field({}, description="probability from which a tile is a defect, by class")


class Camera(Section):
    name: Name = Field(description="part of the camera's topics")
    source: Source = Field(
        description="device, stream, recording or `strip:`; may hold credentials",
        json_schema_extra={"type": ["string", "integer"]},
    )
    enabled: bool = Field(True, description="false: the camera is left out")
    fps: float | None = Field(
        None,
        ge=0.0,
        le=10_000.0,
        description="requested from a device; paces recordings and the generated strip (0: unpaced)",
    )
    loop: bool = Field(False, description="recordings restart at their end")
    live: bool | None = Field(
        None, description="false: frames wait instead of being dropped or late; null: by the kind of source"
    )
    mode: Literal["strip", "parts"] = Field(
        "strip", description="strip: continuous surface with tracked defects; parts: each frame alone"
    )
    budget_ms: float = Field(20.0, gt=0.0, le=60_000.0, description="maximum time from grab to verdict")
    tile_revisit_frames: int = Field(
        6, ge=1, le=1000, description="number of frames in which every tile is inspected under overload"
    )
    roi: Rectangle | Polygon | None = Field(None, description="[x, y, w, h] or [[x, y], ...] in px; null: whole frame")
    exclude: list[Rectangle | Polygon] = Field(
        [], max_length=MAX_ZONES, description="regions like `roi` that are not inspected"
    )
    flatfield: File | None = Field(None, description="map of gains that evens out the light; by `calibrate flatfield`")
    calibrated_thresholds: CalibratedThresholds | None = Field(
        None, description="thresholds for one model; by `calibrate thresholds`"
    )
    anomaly: Literal["classes"] | tuple[File, ...] | None = Field(
        None, description="anomaly models, by `calibrate normal`; null: the calibrated ones, `classes`: none"
    )
    scale: Scale | None = Field(None, description="{mm_per_px: ...}: events also state the box in mm")
    direction: Literal["up", "down", "left", "right"] | None = Field(
        None, description="direction of the strip's travel in the picture; events then state positions on the strip"
    )
    offset_m: float = Field(
        0.0,
        ge=-10_000.0,
        le=10_000.0,
        description="meters from the start of a coil to the picture's edge at which the strip leaves",
    )
    surface: Literal["top", "bottom"] | None = Field(None, description="the surface of the strip that it sees")
    operator_side: Literal["left", "right", "top", "bottom"] | None = Field(
        None, description="where the operator side of the strip lies in the picture; places across count from there"
    )
    across_at_mm: float | None = Field(
        None,
        ge=-100_000.0,
        le=100_000.0,
        description="from the operator side of the strip to the picture's edge on that side; null: from the edge seen",
    )
    lanes: Annotated[list[Lane], AfterValidator(side_by_side)] = Field(
        [], max_length=64, description="[{name, from_mm, to_mm}]: strips side by side, each with coils of its own"
    )
    strip_width: StripWidth | None = Field(None, description="{nominal_mm, tolerance_mm}: limits of the strip's width")
    tile_px: int = Field(200, ge=TILE_PX[0], le=TILE_PX[1], description="side of a tile in the frame")
    tile_mm: float | None = Field(
        None, gt=0.0, le=100_000.0, description="side of a tile in mm, in place of tile_px; needs a scale"
    )
    overlap: float = Field(0.1, ge=0.0, le=0.9, description="minimum share of a tile that its neighbour also covers")
    decision: Decision = Field(Decision(), description="values that override the top-level `decision` for this camera")
    image_quality: ImageQuality = Field(ImageQuality(), description="when a picture does not show the surface")
    domain_check: bool = Field(
        True, description="defects are `unknown` on a surface unlike that of the model's training; false: never"
    )
    drift_s: float = Field(
        300.0, ge=0.0, le=86_400.0, description="window of the drift watch; 0: no watch, otherwise 60 at least"
    )
    ring_frames: int = Field(
        8, ge=2, le=256, description="frames that wait in memory; when full, the oldest is dropped"
    )
    max_memory_mb: int = Field(500, ge=50, le=65_536, description="a camera process that grows larger is restarted")
    width: int | None = Field(None, ge=16, le=32_768, description="requested from a device")
    height: int | None = Field(None, ge=16, le=32_768, description="requested from a device")
    pixel_format: Annotated[str, Field(pattern=r"^[A-Za-z0-9 ]{4}$")] | None = Field(
        None, description="four-letter code requested from a device, such as MJPG or GREY"
    )
    exposure: float | None = Field(None, description="requested from a device, in the driver's unit; null: automatic")
    gain: float | None = Field(None, description="requested from a device, in the driver's unit; null: automatic")
    rtsp_transport: Literal["tcp", "udp"] = Field("tcp", description="transport of RTSP")
    open_timeout_s: float = Field(3.0, gt=0.0, le=120.0, description="a source that takes longer to open has failed")
    read_timeout_s: float = Field(2.0, gt=0.0, le=120.0, description="a read that takes longer has failed")

    _calibration: CameraCalibration = PrivateAttr(default_factory=CameraCalibration)

    @property
    def calibration(self) -> CameraCalibration:
        """What calibrations add beyond these keys.  Never part of a file; empty until `config.calibration` fills it."""
        return self._calibration

    def with_calibration(self, found: CameraCalibration) -> Camera:
        """A copy with these results.  Copies made of that one keep them."""
        copy = self.model_copy()
        copy._calibration = found  # noqa: SLF001 (a copy of this object)
        return copy

    @field_validator("source", mode="before")
    @classmethod
    def _source_may_be_a_number(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("source")
    @classmethod
    def _is_source(cls, value: SecretStr) -> SecretStr:
        return SecretStr(check_source(value.get_secret_value().strip()))

    @field_validator("roi", mode="wrap")
    @classmethod
    def _is_region(cls, value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        try:
            roi = check(value)
        except ValidationError:
            raise ValueError(
                "should be [x, y, w, h] with w and h above 0, or 3 to 64 corners [x, y]; "
                f"whole numbers from 0 to {MAX_PIXEL}"
            ) from None
        if (
            roi is not None
            and isinstance(roi[0], tuple)
            and any(len(set(axis)) == 1 for axis in zip(*roi, strict=True))
        ):
            raise ValueError("is a polygon without area; move a corner")
        return roi

    @field_validator("operator_side")
    @classmethod
    def _lies_across(cls, value: str | None, info: ValidationInfo) -> str | None:
        along = ("top", "bottom") if info.data.get("direction") in ("up", "down") else ("left", "right")
        if value in along and info.data.get("direction") is not None:
            raise ValueError(f"{value!r} lies along the strip, which moves {info.data['direction']}")
        return value

    @field_validator("tile_mm")
    @classmethod
    def _replaces_tile_px(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("tile_px", 200) != 200:
            raise ValueError(f"is set beside tile_px ({info.data['tile_px']}); give one of them")
        return value

    @field_validator("drift_s")
    @classmethod
    def _is_minutes(cls, value: float) -> float:
        if 0.0 < value < 60.0:
            raise ValueError("is shorter than a minute; such a watch would raise an alarm at every coil")
        return value

    @field_validator("name")
    @classmethod
    def _is_free_name(cls, value: str) -> str:
        if value in RESERVED_CAMERA_NAMES:
            raise ValueError(f"{value!r} is a topic of the node itself; choose another name")
        return value


class Config(Section):
    node: Name = Field(description="name of this node; part of every topic")
    state_dir: File = Field(Path("./var"), description="folder for events, evidence and calibrations")
    report_s: Seconds = Field(10.0, description="seconds between report lines and coverage messages")
    log: Log = Log()
    model: Model = Model()
    mqtt: Mqtt = Mqtt()
    outbox: Outbox = Outbox()
    evidence: Evidence = Evidence()
    commands: Commands = Commands()
    sparkplug: Sparkplug = Sparkplug()
    metrics: Metrics = Metrics()
    web: Web = Web()
    travel: Travel = Travel()
    coils: Coils = Coils()
    grading: list[Product] = Field([], max_length=50, description="products, with severities and grades")
    rolls: list[Roll] = Field([], max_length=500, description="rolls of the line, which may mark the strip")
    decision: Decision = Decision()
    cameras: Annotated[tuple[Camera, ...], Field(min_length=1, max_length=64)]

    @field_validator("cameras")
    @classmethod
    def _names_differ(cls, cameras: tuple[Camera, ...]) -> tuple[Camera, ...]:
        names = [camera.name for camera in cameras]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the name {', '.join(map(repr, twice))} is used twice; rename one")
        return cameras

    @field_validator("sparkplug")
    @classmethod
    def _can_connect(cls, value: Sparkplug, info: ValidationInfo) -> Sparkplug:
        mqtt = info.data.get("mqtt")
        try:
            if mqtt is not None:
                value.connection(mqtt)
        except ValidationError as error:
            message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
            raise ValueError(f"broker: {message}") from None
        return value

    @property
    def active_cameras(self) -> tuple[Camera, ...]:
        return tuple(c for c in self.cameras if c.enabled)

    @property
    def lane_names(self) -> frozenset[str]:
        return frozenset(lane.name for camera in self.active_cameras for lane in camera.lanes)

    @property
    def products(self) -> list[dict[str, Any]]:
        """The section `grading` as JSON: what `edge.coverage` reads."""
        return [product.model_dump(mode="json") for product in self.grading]

    @property
    def roll_table(self) -> list[dict[str, Any]]:
        """The section `rolls` as JSON."""
        return [roll.model_dump(mode="json") for roll in self.rolls]

    @property
    def state(self) -> StateDir:
        """The files of the state directory, by name."""
        return StateDir(self.state_dir)

    @property
    def evidence_dir(self) -> Path:
        return self.evidence.dir or self.state.evidence

    @property
    def sha256(self) -> str:
        """Hash of everything that was set or calibrated, without the secrets: events carry it."""
        dump = self.model_dump(mode="json", exclude={"mqtt": {"password"}})
        for values, camera in zip(dump["cameras"], self.cameras, strict=True):
            values["source"] = redact(camera.source.get_secret_value())
            if camera.calibration != CameraCalibration():
                values["calibration"] = camera.calibration.as_json()
        return hashlib.sha256(json.dumps(dump, sort_keys=True).encode()).hexdigest()
