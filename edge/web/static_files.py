"""The files of the front end, read once at the start: a request can name no other file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

from edge.web.route import Response

FOLDER: Final = Path(__file__).with_name("static")
INDEX: Final = "index.html"
PREFIX: Final = "/static/"
BASE: Final = b"__BASE__"
"""In the index: becomes the base path, so that its addresses hold on every page."""
TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".svg": "image/svg+xml",
        ".png": "image/png",
        ".ico": "image/x-icon",
        ".woff2": "font/woff2",
        ".txt": "text/plain; charset=utf-8",
        ".webmanifest": "application/manifest+json",
    }
)
REVALIDATE: Final = "no-cache"
FOR_EVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class StaticFile:
    content_type: str
    body: bytes
    etag: str

    @property
    def version(self) -> str:
        """What `?v=` may name: a file that is asked for with it never changes."""
        return self.etag.strip('"')


class StaticFiles:
    """Owned by the page process."""

    def __init__(self, base_path: str, folder: Path = FOLDER) -> None:
        """Raises OSError."""
        self._files: dict[str, StaticFile] = {}
        for path in sorted(folder.rglob("*")):
            content_type = TYPES.get(path.suffix)
            if content_type is None or path.is_symlink() or not path.is_file():
                continue
            body = path.read_bytes()
            name = path.relative_to(folder).as_posix()
            if name == INDEX:
                body = body.replace(BASE, base_path.encode())
            etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            self._files[PREFIX + name] = StaticFile(content_type, body, etag)

    def response(self, path: str, version: str | None, etags: str) -> Response | None:
        """The answer for a path; None when there is neither a file nor a page of that name.

        version: `v` of the query.  etags: If-None-Match, or empty.
        """
        found = self._files.get(path)
        if found is None and self._is_page(path):
            found = self._files.get(PREFIX + INDEX)
        if found is None:
            return None
        caching = FOR_EVER if version == found.version else REVALIDATE
        headers = {"ETag": found.etag, "Cache-Control": caching}
        if found.etag in (tag.strip().removeprefix("W/") for tag in etags.split(",")):
            return Response(HTTPStatus.NOT_MODIFIED, "", headers=headers)
        return Response(content_type=found.content_type, body=found.body, headers=headers)

    def _is_page(self, path: str) -> bool:
        """Whether the front end shows a page for this path: it decides itself which."""
        if path == "/":
            return True
        parts = [unquote(part, errors="replace") for part in path.split("/")[1:]]
        if parts[-1] == "":
            parts.pop()
        is_plain = all(part and not re.search(r"^\.|[/\\\x00-\x1f\x7f\ufffd]", part) for part in parts)
        return path.startswith("/") and bool(parts) and is_plain and parts[0] not in ("api", "static")
