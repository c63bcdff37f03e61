"""What a request must be like before anything else: for this host, from this page, through a proxy that is known."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from edge.web.refusal import Refusal
from edge.web.settings import PageSettings

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
ANY: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 (compared, not listened on)
MARK: Final = "x-defectd"
"""A header that a page elsewhere cannot send: a browser would ask this server first, and it does not agree."""


@dataclass(frozen=True, slots=True)
class Head:
    """The start of a request, as it came.  headers: by lower-case name.  peer: address of the connection."""

    method: str
    target: str
    headers: Mapping[str, str]
    peer: str
    is_tls: bool


@dataclass(frozen=True, slots=True)
class Sender:
    """Where a request really came from, proxies taken into account."""

    client: str
    is_secure: bool


class Guard:
    """Holds no state of requests."""

    def __init__(self, settings: PageSettings) -> None:
        listen = settings.listen[0]
        own = LOOPBACK if listen in ANY else LOOPBACK | {listen.lower()}
        self._hosts = own | {name.lower() for name in settings.hosts}
        self._takes_any_address = listen in ANY
        self._proxies = tuple(ipaddress.ip_network(address, strict=False) for address in settings.behind_proxy)
        self._needs_proxy = not settings.is_loopback and settings.tls is None

    def sender(self, head: Head) -> Sender:
        """Check the host, the way here, and for a POST its origin.  Raises Refusal."""
        host = head.headers.get("host", "")
        if not self._knows(host):
            raise Refusal(
                HTTPStatus.MISDIRECTED_REQUEST,
                "host",
                "this page is not served under that name",
                "Name it in web.hosts of the configuration",
            )
        is_proxied = self._is_proxy(head.peer)
        if self._needs_proxy and not is_proxied and not _is_loopback(head.peer):
            raise Refusal(HTTPStatus.FORBIDDEN, "proxy", "this page is served through its proxy only")
        client, is_secure = head.peer, head.is_tls
        if is_proxied:
            client = self._client_behind(head)
            is_secure = is_secure or head.headers.get("x-forwarded-proto", "").strip().lower() == "https"
        if head.method not in ("GET", "HEAD"):
            self._check_origin(head, host)
        elif head.headers.get("sec-fetch-site") == "cross-site" and "/api/" in head.target:
            raise Refusal(HTTPStatus.FORBIDDEN, "origin", "this request comes from another page")
        return Sender(client, is_secure)

    def _knows(self, host: str) -> bool:
        found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9_.-]{1,253}))(?::[0-9]{1,5})?", host)
        if found is None:
            return False
        name = (found[1] or found[2]).lower().rstrip(".")
        # A page elsewhere can point its own name at this address, but it cannot have the address itself as its name.
        return name in self._hosts or (self._takes_any_address and _address(name) is not None)

    def _is_proxy(self, peer: str) -> bool:
        address = _address(peer)
        return address is not None and any(address in network for network in self._proxies)

    def _client_behind(self, head: Head) -> str:
        """The last address in the list that is no proxy of ours: those before it are what the client claims."""
        for text in reversed(head.headers.get("x-forwarded-for", "").split(",")):
            address = _address(text.strip())
            if address is None:
                break
            if not any(address in network for network in self._proxies):
                return str(address)
        return head.peer

    def _check_origin(self, head: Head, host: str) -> None:
        origin = head.headers.get("origin", "")
        try:
            parts = urlsplit(origin)
        except ValueError:
            parts = urlsplit("")
        is_own = parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()
        if not is_own or head.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "origin",
                "this request does not come from this page",
                "A program sends Origin: http://HOST:PORT as it addresses the page",
            )
        if head.headers.get(MARK) != "1":
            raise Refusal(HTTPStatus.FORBIDDEN, "mark", "the header X-Defectd: 1 is missing")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _is_loopback(peer: str) -> bool:
    address = _address(peer)
    return address is not None and address.is_loopback
