"""Why a stream does not open: OpenCV gives no reason, so the other side is contacted once more, without the login."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from typing import Final
from urllib.parse import SplitResult

from edge.errors import CameraError

PORTS: Final = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
"""Schemes that can be diagnosed, with their default ports."""


def run_bounded(step: Callable[[], None], limit_s: float, late: str) -> None:
    """Run `step` for at most `limit_s`.  Raises its CameraError, or CameraError(late) when the time is over.

    In a thread, because the name service has no timeout; a thread left behind dies with the camera process.
    """
    raised: list[CameraError] = []

    def run() -> None:
        try:
            step()
        except CameraError as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="diagnose", daemon=True)
    thread.start()
    thread.join(limit_s)
    if raised:
        raise raised[0]
    if thread.is_alive():
        raise CameraError(late)


def resolve(name: str, host: str) -> None:
    """Raises CameraError when the name service does not know the host."""
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:  # the host is not repeated: it may be a part of a password
        reason = error.strerror if isinstance(error, OSError) else None
        more = f" ({reason})" if reason else ""
        raise CameraError(f"{name}: this host is not known; check its name, or give its address{more}") from None


def _is_encoded_twice(parts: SplitResult) -> bool:
    """Whether the login looks as if its secret was percent-encoded before it was put into the URL."""
    return re.search("%25[0-9A-Fa-f]{2}", parts.netloc) is not None


def diagnose(parts: SplitResult, name: str) -> None:
    """Send one request to the other side.  Raises CameraError with what is wrong, if that can be found out."""
    if parts.scheme not in PORTS or not parts.hostname:
        return
    port = parts.port or PORTS[parts.scheme]
    try:
        status = _request_status(parts, port)
    except ConnectionRefusedError:
        raise CameraError(f"{name} refused the connection; nothing listens on port {port}") from None
    except TimeoutError:
        raise CameraError(f"{name} does not answer; check its power, cable and address") from None
    except OSError as error:
        raise CameraError(f"{name} cannot be reached: {error.strerror or error}") from None
    if status == 401 and not parts.username:
        raise CameraError(f"{name} wants a login (401); write user:password@ before the host, best by ${{file:PATH}}")
    if status in (401, 403):
        reason = f"wants a login ({status}) and does not open with this one; check user and password"
        if _is_encoded_twice(parts):
            reason += "; a file or variable must hold the password as it is, without %40 and the like"
        raise CameraError(f"{name} {reason}")
    if status >= 400:
        raise CameraError(f"{name} answers {status}; check the path")


def _request_status(parts: SplitResult, port: int) -> int:
    """The status code of one request without a login; 0 if the answer has none.  Raises OSError."""
    host = parts.hostname or ""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme.startswith("rtsp"):
        address = f"{parts.scheme}://{host}:{port}{path}"
        request = f"DESCRIBE {address} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n"
    else:
        request = f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n"
    with socket.create_connection((host, port), timeout=2.0) as connection:
        link: socket.socket = connection
        if parts.scheme in ("rtsps", "https"):
            import ssl  # noqa: PLC0415 (every camera process would load it at its start, and hardly any needs it)

            context = ssl.create_default_context()
            # FFmpeg does not check the certificate either, and nothing secret is sent here.
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            link = context.wrap_socket(connection, server_hostname=host)
        with link:
            link.sendall(request.encode("ascii", "replace"))
            answer = link.recv(64)
    found = re.match(rb"(?:RTSP|HTTP)/\d\.\d (\d{3})", answer)
    return int(found[1]) if found else 0
