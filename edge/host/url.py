"""URLs that hold a login or a token: filled with secrets, read, and shown without them."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

from edge.host.redact import redact

SAFE_IN_LOGIN: Final = "!$&()*+,;=:~"
"""What need not be encoded there. As much as possible: FFmpeg reads 127 characters of a login for RTSP."""

_SCHEME = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]+:")


def split(url: str) -> SplitResult:
    """The parts, with a port that is a number.  Raises ValueError; its text holds no part of the URL."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its text would repeat a part of the URL, which may be a password
        raise ValueError("is not a URL that can be read") from None
    return parts


def public_url(url: str) -> str:
    """The URL for messages: without user, password and query, which is where cameras take tokens.

    Where an @ follows the host, nobody can say which part is a password, and all of it stays hidden.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        has_scheme = _SCHEME.match(url) and "@" in url
        return f"{url.split(':', 1)[0]}:(hidden)" if has_scheme else url
    if "@" in re.sub(r"^[^/?#]*", "", rest):
        return f"{scheme}://(hidden)"
    try:
        parts = split(url)
    except ValueError:
        return f"{scheme}://(not a valid URL)"
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    host = f"[{host}]" if ":" in host else host
    return redact(f"{parts.scheme}://{host}{port}{parts.path}")


def encoded_at(url: str, at: int, secret: str) -> str:
    """A secret in the form in which it can stand at an index of a URL.

    Percent-encoded as a part of the login, and as the value of a parameter; elsewhere as it is: it may be a host with
    a port, or a path.  url: the text around it; what stands for secrets there must not contain / ? # @ or =.
    """
    start = url.find("://") + 3
    if start < 3 or at < start:
        return secret
    authority = re.match(r"[^/?#]*", url[start:])
    assert authority is not None
    if at < start + authority[0].rfind("@"):
        return quote(secret, safe=SAFE_IN_LOGIN)
    is_value = re.search(r"[/?#&][^/?#&=]*=[^/?#&]*$", url[start:at])
    return quote(secret, safe="") if is_value else secret


def secrets_of(url: str) -> set[str]:
    """The login, the password and the values of the parameters, encoded and not; without the empty one."""
    _, separator, rest = url.partition("://")
    if not separator:
        return set()
    try:
        parts = split(url)
    except ValueError:
        return {url, rest}
    login = parts.netloc.rpartition("@")[0]
    values = {pair.partition("=")[2] for pair in re.split("[/?&]", f"{parts.path}&{parts.query}")}
    found = {login, parts.password or "", *values} - {""}
    return found | {unquote(secret) for secret in found}
