"""The address of a broker, as `mqtt.broker` names it."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit


def embedded_port(broker: str) -> int:
    """Port of `embedded` or `embedded:PORT`; 1883 for anything else."""
    if broker == "embedded" or not broker.startswith("embedded"):
        return 1883
    port = broker.removeprefix("embedded:")
    if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65_535:
        raise ValueError("`embedded:PORT` needs a port from 1 to 65535")
    return int(port)


def broker_address(url: str) -> tuple[str, int, bool]:
    """Host, port and TLS of an mqtt:// or mqtts:// URL.  Raises ValueError with the remedy."""
    form = "write `embedded`, mqtt://HOST:PORT or mqtts://HOST:PORT"
    if "@" in url:
        raise ValueError("credentials do not belong in the URL; use mqtt.username and mqtt.password_file")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text would repeat a part of the URL, which may be a password
        raise ValueError(f"is not an address with a port from 1 to 65535; {form}") from None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or port == 0 or re.search(r"[\s\x00-\x1f]", url):
        raise ValueError(form)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"nothing may follow the port; {form}")
    tls = parts.scheme == "mqtts"
    return parts.hostname, port or (8883 if tls else 1883), tls


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
