"""What the page process is started with, made of a configuration: the process itself loads none."""

from __future__ import annotations

from pathlib import Path

from edge import __version__
from edge.config import Config
from edge.errors import ConfigError, Problem
from edge.host.url import public_url
from edge.web.settings import CameraSettings, PageSettings, Tls


def page_settings(settings: Config, config_path: Path | None) -> PageSettings:
    """The settings of the page of this node.  config_path: of the file.  Raises ConfigError where it has no page."""
    ours, state = settings.web, settings.state
    address = ours.address
    if address is None:
        problem = Problem("web.listen", "null", "this node has no page", "Give it an address, such as 127.0.0.1:8480")
        raise ConfigError("configuration" if config_path is None else str(config_path), (problem,))
    return PageSettings(
        node=settings.node,
        version=__version__,
        listen=address,
        state_dir=settings.state_dir.absolute(),
        outbox=state.outbox.absolute(),
        evidence=settings.evidence_dir.absolute(),
        coils=state.coils.absolute(),
        command_socket=state.command_socket.absolute(),
        feed_socket=state.page_socket.absolute(),
        web_dir=state.web.absolute(),
        config_path=None if config_path is None else config_path.absolute(),
        base_path=ours.base_path,
        hosts=tuple(ours.hosts),
        tls=None if ours.tls is None else Tls(ours.tls.certificate.absolute(), ours.tls.key.absolute()),
        behind_proxy=tuple(ours.behind_proxy),
        cameras=tuple(
            CameraSettings(
                name=camera.name,
                mode=camera.mode,
                budget_ms=camera.budget_ms,
                surface=camera.surface,
                operator_side=camera.operator_side,
                source=public_url(camera.source.get_secret_value()),
            )
            for camera in settings.active_cameras
        ),
        bundle=settings.model.bundle,
        topic_prefix=settings.mqtt.topic_prefix,
        log_level=settings.log.level,
        log_format=settings.log.format,
    )
