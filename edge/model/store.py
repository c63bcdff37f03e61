"""Installed bundles on this machine: one folder each, named by its digest, and which of them is active.

    STATE_DIR/models/DIGEST/           card.json, card.sig, the networks; as they were installed
    STATE_DIR/models/DIGEST/from.json  origin, signer and time of the installation
    STATE_DIR/models/standing.json     the active model, its predecessor, and whether it is still a canary

Each file is written beside its place and renamed: after a power cut there is the old one or the new one, never a part.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from edge.errors import BundleError
from edge.host import atomic_files, regular_file
from edge.host.clock import Clock, stamp
from edge.host.rights import why
from edge.model import bundle

log = logging.getLogger(__name__)

FOLDER: Final = "models"
ACTIVE_FILE: Final = "standing.json"
"""The name, schema and keys of this file come from version 0.1: `_KEYS`."""
ORIGIN_FILE: Final = "from.json"
SCHEMA: Final = "defectd.standing/1"
CONFIGURED: Final = "configured"
"""Stands for the digest of the bundle that `model.bundle` names."""
MAX_BYTES: Final = 1 << 20
MAX_REJECTED: Final = 20
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_INCOMING: Final = ".incoming-"
_KEYS: Final = {
    "configured": "configured",
    "current": "current",
    "previous": "previous",
    "on_trial": "is_canary",
    "starts": "unclean_starts",
    "before": "baseline",
    "rejected": "rejected",
}
"""Keys of the file and the fields of `ActiveModel`."""


@dataclass(frozen=True, slots=True)
class ActiveModel:
    """Which model decides.  configured: the value of `model.bundle` when this was written.

    is_canary: whether the current model is a canary: it replaced `previous`, and may still be rolled back by itself.
    unclean_starts: how often the daemon started with this canary and did not stop properly.
    baseline: the predecessor's counts by camera, which the canary is compared with.
    """

    configured: str
    current: str = CONFIGURED
    previous: str | None = None
    is_canary: bool = False
    unclean_starts: int = 0
    baseline: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    rejected: Mapping[str, str] = field(default_factory=dict)
    """Models that were rolled back, with the reason."""

    def with_canary(self, digest: str, baseline: Mapping[str, Mapping[str, int]]) -> ActiveModel:
        """Make another model the canary, and the current one its predecessor.  baseline: the predecessor's counts."""
        rejected = {other: reason for other, reason in self.rejected.items() if other != digest}
        return ActiveModel(self.configured, digest, self.current, is_canary=True, baseline=baseline, rejected=rejected)

    def promoted(self) -> ActiveModel:
        """The canary period is over: keep the current model."""
        return replace(self, is_canary=False, unclean_starts=0, baseline={})

    def rolled_back(self, reason: str | None = None) -> ActiveModel:
        """Return to the predecessor.  reason: why the current model is rejected; None: it is not."""
        rejected = dict(self.rejected)
        if reason is not None:
            rejected[self.current] = reason[:300]
        rejected = dict(list(rejected.items())[-MAX_REJECTED:])
        return ActiveModel(self.configured, self.previous or CONFIGURED, rejected=rejected)


@dataclass(frozen=True, slots=True)
class Stored:
    """One installed bundle."""

    digest: str
    name: str
    version: str
    size: int
    """Bytes."""
    installed: str
    origin: str
    signed_by: str | None
    path: Path


class Store:
    """The bundles of one state directory.  Every method reads the disk again: a command may install beside a daemon."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self.folder = state_dir / FOLDER

    # ---- bundles -------------------------------------------------------------------------------------

    @contextmanager
    def workplace(self) -> Iterator[Path]:
        """A temporary folder on the same disk.  Raises BundleError when it cannot be created."""
        try:
            self._make()
            for left in self.folder.glob(f"{_INCOMING}*"):  # of an interrupted installation
                if left.stat().st_mtime + 86_400 < self.folder.stat().st_mtime:
                    shutil.rmtree(left, ignore_errors=True)
            work = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=self.folder))
        except OSError as error:
            raise BundleError(f"{self.folder}: cannot be written: {error.strerror}") from error
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def put(self, loaded: bundle.Bundle, signed_by: str | None, clock: Clock) -> str:
        """Install a bundle, over an older copy of itself.  Returns its digest.  Raises BundleError."""
        origin = {"origin": loaded.origin[:500], "signed_by": signed_by, "installed": stamp(clock.wall_ns())}
        files = {**loaded.networks, bundle.CARD: loaded.card_bytes, ORIGIN_FILE: json.dumps(origin).encode()}
        if loaded.signature is not None:
            files[bundle.SIGNATURE] = loaded.signature
        place = self.folder / loaded.digest
        with self.workplace() as work:
            fresh, old = work / "fresh", work / "old"
            try:
                fresh.mkdir(mode=0o700)
                for name, content in files.items():
                    atomic_files.replace(fresh / name, content)
                self._chown(fresh)
                if place.exists():
                    place.rename(old)
                fresh.rename(place)
                atomic_files.sync(self.folder)
            except OSError as error:
                raise BundleError(f"{place}: cannot be written: {error.strerror}") from error
        return loaded.digest

    def get(self, digest: str) -> bundle.Bundle:
        """Load an installed bundle.  Raises BundleError when it is missing or damaged."""
        if not _DIGEST.fullmatch(digest) or not (self.folder / digest).is_dir():
            raise BundleError(f"no bundle {digest[:64]} is installed. See `defectd model list`")
        loaded = bundle.load(self.folder / digest)
        if loaded.digest != digest:
            raise BundleError(f"{self.folder / digest}: card.json is damaged. Install the bundle again")
        return loaded

    def find(self, prefix: str) -> str:
        """The digest that starts with these digits.  Raises BundleError unless there is exactly one."""
        found = [stored.digest for stored in self.list() if stored.digest.startswith(prefix)]
        if len(found) != 1:
            raise BundleError(f"{len(found)} installed bundles start with {prefix[:64]!r}. See `defectd model list`")
        return found[0]

    def list(self) -> tuple[Stored, ...]:
        """All installed bundles, the latest first.  Raises BundleError when the folder cannot be listed."""
        try:
            places = tuple(self.folder.iterdir()) if self.folder.is_dir() else ()
        except OSError as error:
            raise BundleError(f"{self.folder}: {why(error)}") from error
        found = []
        for place in places:
            if not _DIGEST.fullmatch(place.name):
                continue
            source, card = _json(place / ORIGIN_FILE), _json(place / bundle.CARD)
            size = sum(file.stat().st_size for file in place.iterdir())
            name, version = (str(card.get(key, "?"))[:200] for key in ("name", "version"))
            installed, origin = str(source.get("installed", "")), str(source.get("origin", "?"))
            found.append(Stored(place.name, name, version, size, installed, origin, source.get("signed_by"), place))
        return tuple(sorted(found, key=lambda stored: (stored.installed, stored.digest), reverse=True))

    def prune(self, *, keep: int, keep_bytes: int, active: ActiveModel) -> tuple[str, ...]:
        """Delete the oldest bundles above the quota, but neither the active model nor its predecessor.

        keep: number of bundles.  Returns the deleted digests.
        """
        needed = {active.current, active.previous}
        count = size = 0
        deleted = []
        for stored in sorted(self.list(), key=lambda s: s.digest not in needed):
            count, size = count + 1, size + stored.size
            if stored.digest not in needed and (count > keep or size > keep_bytes):
                shutil.rmtree(stored.path, ignore_errors=True)
                deleted.append(stored.digest)
                count, size = count - 1, size - stored.size
        return tuple(deleted)

    # ---- the active model ------------------------------------------------------------------------------

    def active(self, configured: str) -> ActiveModel:
        """The active model.  It is the configured one if `model.bundle` has changed since the last installation."""
        raw = _json(self.folder / ACTIVE_FILE)
        try:
            if raw.pop("schema", None) != SCHEMA:
                return ActiveModel(configured)
            active = ActiveModel(**{_KEYS[key]: value for key, value in raw.items()})
            names = (active.current, active.previous or CONFIGURED)
            if not all(name == CONFIGURED or _DIGEST.fullmatch(name) for name in names):
                raise ValueError("a digest is malformed")
        except (KeyError, TypeError, ValueError) as error:
            log.warning("%s cannot be used: %s", self.folder / ACTIVE_FILE, error)
            return ActiveModel(configured)
        if active.configured != configured:
            log.warning("model.bundle has changed since a model was installed: the configured bundle is used")
            return ActiveModel(configured, rejected=active.rejected)
        return active

    def write(self, active: ActiveModel) -> None:
        """Save it.  Raises BundleError."""
        place = self.folder / ACTIVE_FILE
        values = {key: getattr(active, name) for key, name in _KEYS.items()}
        text = json.dumps({"schema": SCHEMA, **values}, indent=1)
        try:
            self._make()
            atomic_files.replace(place, text.encode(), owner=self._state_dir.stat())
        except OSError as error:
            raise BundleError(f"{place}: cannot be written: {error.strerror}") from error

    # ---- the disk --------------------------------------------------------------------------------------

    def _make(self) -> None:
        if not self.folder.is_dir():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._chown(self.folder)

    def _chown(self, place: Path) -> None:
        """Give files that root installs to the owner of the state directory."""
        if os.geteuid() == 0:
            owner = self._state_dir.stat()
            for path in (place, *(place.iterdir() if place.is_dir() else ())):
                os.chown(path, owner.st_uid, owner.st_gid)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(regular_file.read(path, MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
