"""Models on the Hugging Face hub: `hf://OWNER/NAME[@REVISION]`, fetched over https from public repositories.

    https://huggingface.co/OWNER/NAME/resolve/REVISION/FILE

The environment variable HF_ENDPOINT names another hub, as for the hub's own library; it must be https, too.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from edge.errors import BundleError
from edge.host.clock import Clock
from edge.host.text import one_line
from edge.model.download import download

SCHEME: Final = "hf://"
ENDPOINT: Final = "https://huggingface.co"
BUNDLE_FILE: Final = "bundle.zip"
"""The name of our bundle in a repository: what `defectd-train publish` writes and `model install` fetches."""
CONFIG_FILE: Final = "config.json"
MAX_CONFIG_BYTES: Final = 1 << 20
_ADDRESS: Final = re.compile(
    r"hf://(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(@(?P<revision>[A-Za-z0-9][\w./-]{0,199}))?"
)
_FILE: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,99}(/[A-Za-z0-9][\w.-]{0,99}){0,4}")


@dataclass(frozen=True, slots=True)
class Repository:
    """A model repository at one revision: a branch, a tag or a commit."""

    name: str
    """OWNER/NAME."""
    revision: str = "main"

    @classmethod
    def of(cls, address: str) -> Repository:
        """Raises BundleError for anything but hf://OWNER/NAME[@REVISION]."""
        found = _ADDRESS.fullmatch(address)
        if found is None or ".." in address:
            raise BundleError(f"{one_line(address, 200)}: give hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
        return cls(found["repo"], found["revision"] or "main")

    def url(self, file: str) -> str:
        """Where a file of the repository is."""
        endpoint = os.environ.get("HF_ENDPOINT", ENDPOINT).rstrip("/")
        return f"{endpoint}/{self.name}/resolve/{quote(self.revision, safe='')}/{quote(safe_name(file))}"

    def fetch(self, file: str, to: Path, clock: Clock, **limits: int) -> Path:
        """Download a file.  Raises BundleError."""
        download(self.url(file), to, clock, **limits)
        return to


def safe_name(file: str) -> str:
    """A file's path inside a repository, as another file there names it.  Raises BundleError for anything else."""
    if not _FILE.fullmatch(file):
        raise BundleError(f"{one_line(file, 100)!r} is no file of a model repository")
    return file
