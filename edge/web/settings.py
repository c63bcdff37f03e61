"""What the page process is started with: one JSON object on its stdin, made of the configuration by who starts it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class CameraSettings:
    """What the page needs to know of a camera before the daemon says more."""

    name: str
    mode: str
    budget_ms: float
    surface: str | None = None
    operator_side: str | None = None
    source: str = ""
    """Without its credentials."""


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class PageSettings:
    """Frozen; every path is absolute."""

    node: str
    version: str
    listen: tuple[str, int]
    """Host and port; port 0: any free one."""
    state_dir: Path
    outbox: Path
    evidence: Path
    coils: Path
    command_socket: Path
    feed_socket: Path
    web_dir: Path
    """Users, sessions and links of this page; only this process and the command line write there."""
    config_path: Path | None
    base_path: str = ""
    """Before every path of the page: "" or "/line3"."""
    hosts: tuple[str, ...] = ()
    """Names that the page has besides its address."""
    tls: Tls | None = None
    behind_proxy: tuple[str, ...] = ()
    """Addresses of proxies whose X-Forwarded headers are believed."""
    cameras: tuple[CameraSettings, ...] = ()
    classes: tuple[str, ...] = ()
    bundle: str = "builtin"
    """The model of the configuration: `builtin`, or the path of a directory or zip."""
    topic_prefix: str = "defectd"
    log_level: str = "info"
    log_format: Literal["auto", "plain", "json"] = "auto"

    @property
    def labels(self) -> Path:
        """Folder of what people say that pictures show: `StateDir.labels`."""
        return self.state_dir / "labels"

    @property
    def coil_reports(self) -> Path:
        """Folder of the files of coil reports: `StateDir.coil_reports`."""
        return self.coils / "reports"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.listen[0] in ("localhost", "::1") or self.listen[0].startswith("127.")

    @property
    def url(self) -> str:
        """Where a person on this machine opens the page; with `hosts`, the first of them."""
        host, port = self.listen
        if self.hosts:
            host = self.hosts[0]
        elif host in ("", "0.0.0.0", "::"):  # noqa: S104 (compared, not listened on)
            host = "localhost"
        elif ":" in host:
            host = f"[{host}]"
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{host}:{port}{self.base_path}/"

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> PageSettings:
        """Raises ValueError if the text is not what `to_json` wrote."""
        try:
            fields: dict[str, Any] = json.loads(text)
            host, port = fields["listen"]
            tls, config_path = fields["tls"], fields["config_path"]
            paths = ("state_dir", "outbox", "evidence", "coils", "command_socket", "feed_socket", "web_dir")
            return cls(
                **{
                    **fields,
                    **{name: Path(fields[name]) for name in paths},
                    "listen": (str(host), int(port)),
                    "config_path": None if config_path is None else Path(config_path),
                    "hosts": tuple(fields["hosts"]),
                    "tls": None if tls is None else Tls(Path(tls["certificate"]), Path(tls["key"])),
                    "behind_proxy": tuple(fields["behind_proxy"]),
                    "cameras": tuple(CameraSettings(**camera) for camera in fields["cameras"]),
                    "classes": tuple(fields["classes"]),
                }
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not the settings of a page process: {error!r}") from None
