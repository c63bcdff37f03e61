"""The card of a model bundle, found by the digest of the bundle, which is the SHA-256 of the card.

`edge.model.bundle` checks bundles; it needs numpy and pydantic, which this process does not load.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from edge.host import regular_file
from edge.host.zip_errors import ZIP_ERRORS

CARD: Final = "card.json"
BUILTIN: Final = "builtin"
MAX_BYTES: Final = 1 << 20
LEFT_OUT: Final = ("selftest", "variants")
"""Hundreds of numbers for machines."""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_OURS: Final = Path(__file__).parents[1] / "model" / "builtin"


def card_of(state_dir: Path, configured: str, digest: str) -> dict[str, Any] | None:
    """The card of a bundle that is installed, configured or shipped; None for another one."""
    if not _DIGEST.fullmatch(digest):
        return None
    for content in _cards(state_dir, configured, digest):
        if hashlib.sha256(content).hexdigest() == digest:
            card: dict[str, Any] = json.loads(content)
            return {name: value for name, value in card.items() if name not in LEFT_OUT}
    return None


def _cards(state_dir: Path, configured: str, digest: str) -> Iterator[bytes]:
    folders = [state_dir / "models" / digest, _OURS]
    if configured != BUILTIN:
        folders.append(Path(configured))
    for folder in folders:
        try:
            if folder.is_file():
                with zipfile.ZipFile(folder) as archive, archive.open(CARD) as member:
                    yield member.read(MAX_BYTES)
            else:
                yield regular_file.read(folder / CARD, MAX_BYTES)
        except (OSError, *ZIP_ERRORS):
            continue  # it is not there, or it is damaged
