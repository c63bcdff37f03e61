"""Installed bundles on this box: one folder each, named by its digest, and which of them is in use.

    STATE_DIR/models/DIGEST/           card.json, card.sig, the networks; as they were installed
    STATE_DIR/models/DIGEST/from.json  where it came from, who signed it, when
    STATE_DIR/models/standing.json     the one in use, its predecessor, and the trial between them

Everything is written beside its place and renamed: after a power cut there is the old one or the new one.
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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from edge.errors import BundleError
from edge.host import atomic_files
from edge.host.clock import Clock, stamp
from edge.model import bundle

log = logging.getLogger(__name__)

FOLDER: Final = "models"
STANDING: Final = "standing.json"
FROM: Final = "from.json"
SCHEMA: Final = "defectd.standing/1"
CONFIGURED: Final = "configured"
"""In the place of a digest: the bundle that `model.bundle` names."""
MAX_BYTES: Final = 1 << 20
MAX_REJECTED: Final = 20
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_INCOMING: Final = ".incoming-"


@dataclass(frozen=True, slots=True)
class ActiveModel:
    """Which model decides.  configured: what `model.bundle` was when this was written.

    starts: how often the daemon was started with a model on trial and did not come to a proper end.
    before: what the predecessor did at each camera, for the comparison.
    """

    configured: str
    current: str = CONFIGURED
    previous: str | None = None
    on_trial: bool = False
    starts: int = 0
    before: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    rejected: Mapping[str, str] = field(default_factory=dict)
    """Models that were rolled back, and why."""

    def after(self, digest: str, before: Mapping[str, Mapping[str, int]]) -> ActiveModel:
        """With another model on trial."""
        rejected = {other: why for other, why in self.rejected.items() if other != digest}
        return ActiveModel(self.configured, digest, self.current, on_trial=True, before=before, rejected=rejected)

    def trusted(self) -> ActiveModel:
        """The trial is over."""
        return replace(self, on_trial=False, starts=0, before={})

    def back(self, reason: str | None = None) -> ActiveModel:
        """With the predecessor again.  reason: why the model was rejected; None: it was not."""
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
    """The bundles of one state directory.  Every method reads the disk anew: others may install beside a daemon."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self.folder = state_dir / FOLDER

    # ---- bundles -------------------------------------------------------------------------------------

    @contextmanager
    def workplace(self) -> Iterator[Path]:
        """A folder on the same disk, gone afterwards.  Raises BundleError when the disk will not have it."""
        try:
            self._make()
            for left in self.folder.glob(f"{_INCOMING}*"):  # of an installation that was cut off
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
        """Keep a bundle; its digest.  One that is there already is written anew.  Raises BundleError."""
        told = {"origin": loaded.origin[:500], "signed_by": signed_by, "installed": stamp(clock.wall_ns())}
        files = {**loaded.networks, bundle.CARD: loaded.card_bytes, FROM: json.dumps(told).encode()}
        if loaded.signature is not None:
            files[bundle.SIGNATURE] = loaded.signature
        place = self.folder / loaded.digest
        with self.workplace() as work:
            fresh, old = work / "fresh", work / "old"
            try:
                fresh.mkdir(mode=0o700)
                for name, content in files.items():
                    atomic_files.replace(fresh / name, content)
                self._give(fresh)
                if place.exists():
                    place.rename(old)
                fresh.rename(place)
                atomic_files.sync(self.folder)
            except OSError as error:
                raise BundleError(f"{place}: cannot be written: {error.strerror}") from error
        return loaded.digest

    def get(self, digest: str) -> bundle.Bundle:
        """Raises BundleError when it is not there, or is damaged."""
        if not _DIGEST.fullmatch(digest) or not (self.folder / digest).is_dir():
            raise BundleError(f"no bundle {digest[:64]} is installed. See `defectd model list`")
        loaded = bundle.load(self.folder / digest)
        if loaded.digest != digest:
            raise BundleError(f"{self.folder / digest}: card.json is damaged. Install the bundle again")
        return loaded

    def find(self, beginning: str) -> str:
        """The digest that begins so.  Raises BundleError unless it is one."""
        found = [stored.digest for stored in self.list() if stored.digest.startswith(beginning)]
        if len(found) != 1:
            raise BundleError(f"{len(found)} installed bundles begin with {beginning[:64]!r}. See `defectd model list`")
        return found[0]

    def list(self) -> tuple[Stored, ...]:
        """All of them, the latest first."""
        found = []
        for place in self.folder.iterdir() if self.folder.is_dir() else ():
            if not _DIGEST.fullmatch(place.name):
                continue
            told, card = _json(place / FROM), _json(place / bundle.CARD)
            size = sum(file.stat().st_size for file in place.iterdir())
            name, version = (str(card.get(key, "?"))[:200] for key in ("name", "version"))
            installed, origin = str(told.get("installed", "")), str(told.get("origin", "?"))
            found.append(Stored(place.name, name, version, size, installed, origin, told.get("signed_by"), place))
        return tuple(sorted(found, key=lambda stored: (stored.installed, stored.digest), reverse=True))

    def prune(self, *, keep: int, keep_bytes: int, standing: ActiveModel) -> tuple[str, ...]:
        """Delete the oldest beyond the quota, never the one in use or its predecessor.  Digests of those deleted."""
        needed = {standing.current, standing.previous}
        count = size = 0
        deleted = []
        for stored in sorted(self.list(), key=lambda s: s.digest not in needed):
            count, size = count + 1, size + stored.size
            if stored.digest not in needed and (count > keep or size > keep_bytes):
                shutil.rmtree(stored.path, ignore_errors=True)
                deleted.append(stored.digest)
                count, size = count - 1, size - stored.size
        return tuple(deleted)

    # ---- which of them is in use -----------------------------------------------------------------------

    def standing(self, configured: str) -> ActiveModel:
        """What was last written, as long as `model.bundle` is what it was then."""
        raw = _json(self.folder / STANDING)
        try:
            if raw.pop("schema", None) != SCHEMA:
                return ActiveModel(configured)
            standing = ActiveModel(**raw)
            names = (standing.current, standing.previous or CONFIGURED)
            if not all(name == CONFIGURED or _DIGEST.fullmatch(name) for name in names):
                raise ValueError("no digests")
        except (TypeError, ValueError) as error:
            log.warning("%s cannot be used: %s", self.folder / STANDING, error)
            return ActiveModel(configured)
        if standing.configured != configured:
            log.warning("model.bundle is another than when a model was installed: the configuration holds")
            return ActiveModel(configured, rejected=standing.rejected)
        return standing

    def write(self, standing: ActiveModel) -> None:
        """Make it durable.  Raises BundleError."""
        place = self.folder / STANDING
        text = json.dumps({"schema": SCHEMA, **asdict(standing)}, indent=1)
        try:
            self._make()
            atomic_files.replace(place, text.encode(), owner=self._state_dir.stat())
        except OSError as error:
            raise BundleError(f"{place}: cannot be written: {error.strerror}") from error

    # ---- the disk --------------------------------------------------------------------------------------

    def _make(self) -> None:
        if not self.folder.is_dir():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._give(self.folder)

    def _give(self, place: Path) -> None:
        """What root installs belongs to the user whose state it is."""
        if os.geteuid() == 0:
            owner = self._state_dir.stat()
            for path in (place, *(place.iterdir() if place.is_dir() else ())):
                os.chown(path, owner.st_uid, owner.st_gid)


def _json(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
