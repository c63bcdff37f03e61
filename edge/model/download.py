"""Download a file: over https only, bounded in bytes and in time."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlsplit

from edge.errors import BundleError
from edge.host.clock import NS_PER_S, Clock
from edge.host.redact import redact
from edge.host.text import one_line

MAX_BYTES: Final = 64 << 20
LIMIT_S: Final = 120.0
"""Limit of the whole download."""
SILENCE_S: Final = 10.0
"""Limit of the silence before the response and between two pieces of it."""
PIECE: Final = 64 * 1024


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Follows a few redirections, but only to https."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        _check(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_https = parts.scheme == "https" and bool(parts.hostname)
    except ValueError:
        is_https = False
    if not is_https:
        raise BundleError(f"{one_line(redact(url), 200)}: give a URL that starts with https://")


def download(
    url: str, to: Path, clock: Clock, *, limit_s: float = LIMIT_S, silence_s: float = SILENCE_S, most: int = MAX_BYTES
) -> None:
    """Download a URL into a file.  Raises BundleError; the caller deletes the partial file.

    most: bytes.  The environment may name proxies (https_proxy) and certificate authorities (SSL_CERT_FILE).
    """
    _check(url)
    shown = one_line(redact(url), 200)
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _OnlyHttps(),
    ):
        opener.add_handler(handler)
    until_ns = clock.monotonic_ns() + int(limit_s * NS_PER_S)
    size = 0
    try:
        with opener.open(url, timeout=silence_s) as response, to.open("wb") as file:
            # read1 returns each piece as it comes, so that the limit is checked however slow the server is
            while piece := response.read1(PIECE):
                size += len(piece)
                if size > most:
                    raise BundleError(f"{shown}: is larger than {most >> 20} MiB. This is not a bundle")
                if clock.monotonic_ns() > until_ns:
                    raise BundleError(
                        f"{shown}: is incomplete after {limit_s:g} s ({size >> 10} KiB received). Try again"
                    )
                file.write(piece)
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
        reason = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise BundleError(f"{shown}: cannot be downloaded: {one_line(redact(str(reason)), 200)}") from error
