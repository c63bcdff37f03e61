"""How long certificates remain valid: those in files, and the one that the broker presents."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from edge import config
from edge.host.clock import NS_PER_S, Clock
from edge.monitoring.doctor.finding import Finding

SOON_S: Final = 30 * 86_400
"""A certificate that expires within this time gets a warning."""
ANSWER_S: Final = 5.0

_PEM: Final = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_UTC_TIME, _GENERALIZED_TIME, _EXPLICIT_0 = 0x17, 0x18, 0xA0


def files(mqtt: config.Mqtt, clock: Clock) -> Iterator[Finding]:
    """For ca_file and for cert_file, the certificate that expires first."""
    for key, path in (("ca_file", mqtt.ca_file), ("cert_file", mqtt.cert_file)):
        if path is not None:
            remedy = "Replace the file; defectd reads it at each connection"
            yield of_file(key, f"mqtt.{key}", path, clock, remedy)


def of_file(about: str, key: str, path: Path, clock: Clock, remedy: str) -> Finding:
    """The certificate of a PEM file that expires first.  key: of the configuration.  remedy: when it has to be new."""
    try:
        found = [ends_s(ssl.PEM_cert_to_DER_cert(pem)) for pem in _PEM.findall(path.read_text("ascii"))]
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "cannot be read as PEM"
        return Finding(about, "fail", f"{path}: {why}", f"Give a readable PEM file: {key}")
    if not found:
        return Finding(about, "fail", f"{path} holds no certificate", f"Give a PEM file: {key}")
    return _finding(about, str(path), min(found), clock, remedy)


def of_broker(mqtt: config.Mqtt, clock: Clock) -> Iterator[Finding]:
    """The certificate that the broker presents, trusted or not.

    Nothing when the broker presents none: the finding about the broker gives the reason.
    """
    host, port, tls = mqtt.address
    if not tls:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # An untrusted certificate is dated, too, and nothing secret is sent on this connection.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        if mqtt.cert_file is not None:
            context.load_cert_chain(mqtt.cert_file, mqtt.key_file)
        with (
            socket.create_connection((host, port), ANSWER_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as link,
        ):
            shown = link.getpeercert(binary_form=True)
        end_s = ends_s(shown or b"")
    except (OSError, ValueError):
        return
    yield _finding("broker certificate", f"{host}:{port}", end_s, clock, "Have the broker's administrator renew it")


def _finding(about: str, what: str, end_s: float, clock: Clock, remedy: str) -> Finding:
    left_s = end_s - clock.wall_ns() / NS_PER_S
    if left_s < 0:
        says = f"{what} expired {-left_s / 86_400:.0f} days ago"
        return Finding(about, "fail", says, f"{remedy}, or set the clock of this machine")
    says = f"{what} is valid for {left_s / 86_400:.0f} days"
    return Finding(about, "warning", says, remedy) if left_s < SOON_S else Finding(about, "ok", says)


def ends_s(der: bytes) -> float:
    """When a certificate expires, seconds since 1970.  Raises ValueError.  Source: RFC 5280, section 4.1.

    Python's ssl gives the dates of authorities and of trusted peers only.
    """
    try:
        (_, certificate), *_ = _parts(der)
        (_, to_be_signed), *_ = _parts(certificate)
        fields = [body for tag, body in _parts(to_be_signed) if tag != _EXPLICIT_0]  # without the version
        _, (tag, text) = _parts(fields[3])  # serial, signature, issuer, validity
        form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}[tag]
        return datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC).timestamp()
    except (IndexError, KeyError) as error:
        raise ValueError("not an X.509 certificate") from error


def _parts(der: bytes) -> list[tuple[int, bytes]]:
    """Tags and contents of consecutive DER values."""
    parts, at = [], 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:
            octets = length & 0x7F
            length = int.from_bytes(der[at : at + octets], "big")
            at += octets
        parts.append((tag, der[at : at + length]))
        at += length
    return parts
