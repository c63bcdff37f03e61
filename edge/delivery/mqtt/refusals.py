"""Why a connection cannot be made, in words that a person can act on; TLS and the password."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Final

from edge.config import Mqtt
from edge.delivery.mqtt.notices import Refused

CONNECT_TIMEOUT_S: Final = 5.0
"""For the TCP connection, and again for the TLS handshake."""


class CannotStart(Exception):
    """The settings of the connection cannot be used."""

    def __init__(self, refusal: Refused) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class _TlsSocket(ssl.SSLSocket):
    """Closes itself when the handshake fails: paho leaves that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 (the signature of ssl)
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def tls_context(settings: Mqtt) -> ssl.SSLContext:
    """TLS 1.2 or newer, host name checked.  Reads the files at each attempt, so that they can be rotated.

    Raises CannotStart.
    """
    name = "mqtt.ca_file"
    path = settings.ca_file
    try:
        context = ssl.create_default_context(cafile=None if path is None else str(path))
        context.sslsocket_class = _TlsSocket
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.cert_file is not None:
            name, path = "mqtt.cert_file", settings.cert_file
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        why = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else "is not usable"
        raise CannotStart(Refused(f"{name} {path}: {why}", "give a readable PEM file")) from error
    return context


def password(settings: Mqtt) -> str | None:
    """Raises CannotStart."""
    try:
        return settings.read_password()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise CannotStart(
            Refused(f"mqtt.password_file {settings.password_file}: {why}", "make it readable for this user")
        ) from None


def of_connack(code: int, name: str, settings: Mqtt) -> Refused:
    """A CONNACK that refuses."""
    host, port, _ = settings.address
    text = f"the broker {host}:{port} refuses the connection ({name})"
    remedies = {
        0x84: "set mqtt.protocol to auto or 3.1.1",
        0x85: "set another mqtt.client_id",
        0x86: "check mqtt.username and the password",
        0x87: "check mqtt.username and the password, and the broker's access list",
        0x88: "the broker is not ready; the node tries again",
        0x89: "the broker is busy; the node tries again",
        0x8A: "the broker has banned this client",
        0x8C: "the broker requires another login than a password",
        0x97: "the broker's quota is used up",
        0x9F: "too many connections; the node tries again later",
    }
    return Refused(text, remedies.get(code, "see the broker's log"), code)


def of_silence(host: str, port: int, *, tls: bool) -> Refused:
    """The other end closed the connection before it answered."""
    remedy = (
        "is this the TLS port? If it is: does it want a client certificate (mqtt.cert_file)? See its log"
        if tls
        else "does this port expect TLS (mqtts://)? See its log"
    )
    return Refused(f"the broker {host}:{port} closed the connection without an answer", remedy, hung_up=True)


_VERIFY: Final = {
    9: ("is not valid yet", "check the clock of this machine"),
    10: ("has expired", "renew it, or check the clock of this machine"),
    18: ("is signed by itself", "set mqtt.ca_file to the authority that signed it"),
    19: ("comes from an unknown authority", "set mqtt.ca_file to the authority that signed it"),
    20: ("comes from an unknown authority", "set mqtt.ca_file to the authority that signed it"),
    21: ("comes from an unknown authority", "set mqtt.ca_file to the authority that signed it"),
    62: ("is for another host name", "use the name in the certificate in mqtt.broker"),
    64: ("is for another address", "use the name in the certificate in mqtt.broker"),
}


def of_error(error: Exception, host: str, port: int, *, tls: bool) -> Refused:  # noqa: PLR0911 (a table)
    """What failed before the broker could answer."""
    where = f"{host}:{port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        what, remedy = _VERIFY.get(error.verify_code, (f"is not trusted ({error.verify_message})", "see mqtt.ca_file"))
        return Refused(f"the certificate of {where} {what}", remedy)
    if isinstance(error, TimeoutError):  # before SSLError: a handshake that stalls
        remedy = "is the network up, is a firewall in between?" + (" Is TLS spoken there?" if tls else "")
        return Refused(f"no answer from {where} within {CONNECT_TIMEOUT_S:g} s", remedy)
    if isinstance(error, ssl.SSLError):
        what = (getattr(error, "reason", None) or "handshake failed").replace("_", " ").lower()
        return Refused(f"TLS with {where} failed ({what})", "is this the TLS port? mqtt:// connects without TLS")
    if isinstance(error, socket.gaierror):
        return Refused(f"the name {host} cannot be resolved", "check mqtt.broker and the DNS of this machine")
    if isinstance(error, ConnectionRefusedError):
        return Refused(f"nothing listens at {where}", "start the broker, or check mqtt.broker")
    if isinstance(error, ConnectionError):
        return of_silence(host, port, tls=tls)
    if isinstance(error, OSError) and error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return Refused(f"there is no way to {where} ({error.strerror})", "check the network of this machine")
    return Refused(f"{where} cannot be reached ({type(error).__name__}: {error})", "check mqtt.broker")
