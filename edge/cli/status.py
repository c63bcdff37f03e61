"""status and snapshot: what the running node shows, on one screen and as one picture."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from edge.cli.exit_codes import EXIT_FAILED, exits_with_reason
from edge.cli.options import config_option, json_option
from edge.cli.progress import note
from edge.errors import DeliveryError

if TYPE_CHECKING:
    from edge.config import Config
    from edge.delivery.page.framing import Message

WAIT_S: Final = 5.0
RENEW_S: Final = 1.0
REFRESH_S: Final = 1.0


@click.command(short_help="The state of the running node, on one screen.")
@config_option
@json_option
@click.option("--watch", is_flag=True, help="Show it again each second, until Ctrl-C.")
@exits_with_reason
def status(config_path: Path, as_json: bool, watch: bool) -> None:
    """Show whether the strip is being inspected: cameras, coverage, delivery, model.

    \b
    Examples:
      defectd status -c /etc/defectd/config.yaml

    Needs no right to write: without access to the node's socket the command asks the page on this machine. Exit code 0
    while the node inspects, 1 when it is degraded, does not inspect, or does not run.
    """
    from edge import config

    settings = config.load(config_path)
    while True:
        state = _state(settings)
        if as_json:
            click.echo(json.dumps(state))
        else:
            _print_state(state)
        if not watch:
            sys.exit(0 if state["verdict"] == "inspecting" else EXIT_FAILED)
        threading.Event().wait(REFRESH_S)
        if not as_json:
            click.clear()


def _print_state(state: dict[str, Any]) -> None:
    from rich.console import Console

    from edge.cli import screen

    Console(highlight=False).print(screen.header(state))


def _state(settings: Config) -> dict[str, Any]:
    """The state object of the running node.  Raises DeliveryError."""
    from edge.delivery.page.messages import Want

    try:
        return dict(_message(settings, "state", Want()).header["state"])
    except DeliveryError as error:
        state = _from_page(settings)
        if state is None:
            raise DeliveryError(f"{error}. Is the daemon running? See `systemctl status defectd`") from error
        return state


def _from_page(settings: Config) -> dict[str, Any] | None:
    """The state object from the page on this machine, which shows it to everybody there; None without a page."""
    import http.client

    if settings.web.address is None:
        return None
    connection = http.client.HTTPConnection(*settings.web.address, timeout=WAIT_S)
    try:
        connection.request("GET", f"{settings.web.base_path}/api/v1/state")
        answer = connection.getresponse()
        found = json.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return found if answer.status == http.HTTPStatus.OK and isinstance(found, dict) else None


@click.command(short_help="Save a picture of a camera.")
@config_option
@click.option("--camera", help="Which one.  [default: the only one]")
@click.option("--boxes", is_flag=True, help="Draw the defects of this very frame in.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="FILE.jpg or FILE.png."
)
@exits_with_reason
def snapshot(config_path: Path, camera: str | None, boxes: bool, out: Path) -> None:
    """Save the next inspected picture of a camera of the running daemon.

    \b
    Examples:
      defectd snapshot --camera top --boxes -o top.jpg
    """
    from edge import config
    from edge.delivery.page.messages import LONGEST_PX, CameraWant, Want

    settings = config.load(config_path)
    names = [each.name for each in settings.active_cameras]
    if camera is None and len(names) != 1:
        raise click.UsageError(f"--camera: there are several: {', '.join(names)}")
    name = config.find_camera(settings, camera or names[0], str(config_path)).name
    message = _message(settings, "frame", Want({name: CameraWant(10.0, LONGEST_PX[1])}))
    _save(message, out, boxes=boxes)
    regions = message.header["regions"]
    found = ", ".join(f"{region['class']} {region['confidence']:.2f}" for region in regions) or "no defect"
    note(f"{out}: camera {name}, frame {message.header['number']}, {message.header['state']}: {found}")


def _save(message: Message, out: Path, *, boxes: bool) -> None:
    """Write the picture of a frame message, with its regions drawn in where they are wanted."""
    import cv2
    import numpy as np

    image = cv2.imdecode(np.frombuffer(message.body, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DeliveryError("the picture of the daemon cannot be decoded")
    if boxes:
        ratio = message.header["jpeg_px"][0] / message.header["size_px"][0]
        for region in message.header["regions"]:
            x, y, w, h = (round(side * ratio) for side in region["extent_px"] or region["box_px"])
            cv2.rectangle(image, (x, y), (x + w, y + h), (0, 110, 255), 2)
            words = f"{region['class']} {region['confidence']:.2f}"
            cv2.putText(image, words, (x, max(y - 6, 12)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 110, 255), 1, cv2.LINE_AA)
    if not cv2.imwrite(str(out), image):
        raise click.UsageError(f"{out}: cannot be written; end its name in .jpg or .png")


def _message(settings: Config, kind: str, want: Any) -> Message:
    """The first message of that kind.  Raises DeliveryError."""
    from edge.delivery.page.reader import FeedReader
    from edge.host.clock import NS_PER_S, SystemClock

    clock = SystemClock()
    with FeedReader(settings.state.page_socket) as feed:
        until_ns = clock.monotonic_ns() + int(WAIT_S * NS_PER_S)
        renew_ns = 0
        while (now_ns := clock.monotonic_ns()) < until_ns:
            if now_ns >= renew_ns:
                feed.want(want)
                renew_ns = now_ns + int(RENEW_S * NS_PER_S)
            for message in feed.read(RENEW_S / 2):
                if message.kind == kind:
                    return message
    raise DeliveryError(f"the daemon has sent no {kind} for {WAIT_S:g} s")
