"""The state directory: the name of every file in it, and the lock that lets one daemon use it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge.errors import ConfigError, Problem
from edge.host import rights


@dataclass(frozen=True, slots=True)
class StateDir:
    """Where a node keeps what survives a restart.  A property creates nothing."""

    path: Path

    @property
    def outbox(self) -> Path:
        """SQLite database of events, delivered or not (`delivery.outbox`)."""
        return self.path / "outbox.db"

    @property
    def coverage_totals(self) -> Path:
        """Coverage at the end of the last run (`coverage.totals`)."""
        return self.path / "coverage.json"

    @property
    def coil(self) -> Path:
        """The coil that runs (`coverage.coil_store`)."""
        return self.path / "coil.json"

    @property
    def coils(self) -> Path:
        """Folder of coil records (`coverage.coil_record`, written by `delivery.coils`)."""
        return self.path / "coils"

    @property
    def coil_reports(self) -> Path:
        """Folder of the files of coil reports (`report.shelf`)."""
        return self.coils / "reports"

    @property
    def overrides(self) -> Path:
        """Thresholds set by commands (`config.overrides`)."""
        return self.path / "thresholds.json"

    @property
    def tuning(self) -> Path:
        """Precision, threads and batch for this machine (`config.tuning`).  No camera may be named node."""
        return self.path / "calibration" / "node.yaml"

    def calibration(self, camera: str) -> Path:
        """Results of one camera's calibrations (`config.calibration`)."""
        return self.path / "calibration" / f"{camera}.yaml"

    @property
    def models(self) -> Path:
        """Folder of installed bundles (`model.store`)."""
        return self.path / "models"

    @property
    def evidence(self) -> Path:
        """Folder of pictures, unless the configuration names another one (`evidence.archive`)."""
        return self.path / "evidence"

    @property
    def labels(self) -> Path:
        """Folder of what people say that pictures show, with those pictures (`evidence.labels`)."""
        return self.path / "labels"

    @property
    def sparkplug(self) -> Path:
        """Cursor and bdSeq of the Sparkplug output (`delivery.sparkplug`)."""
        return self.path / "sparkplug.json"

    @property
    def command_socket(self) -> Path:
        """Unix socket for commands from this machine (`control.unix_socket`)."""
        return self.path / "console"

    @property
    def web(self) -> Path:
        """Folder of the page: users, sessions, open links (`web.users_file`, `web.sessions`, `web.entry_links`)."""
        return self.path / "web"

    @property
    def page_users(self) -> Path:
        """Users of the page (`web.users_file`)."""
        return self.web / "users.json"

    @property
    def page_socket(self) -> Path:
        """Unix socket of the page's feed (`delivery.page`)."""
        return self.path / "web.sock"

    @property
    def lock_file(self) -> Path:
        return self.path / "lock"

    def is_locked(self) -> bool:
        """Whether a daemon runs on this directory.  True as well where that cannot be found out."""
        try:
            handle = os.open(self.lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(handle)
        return False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock: two daemons on one outbox would use the same seq twice.  Raises ConfigError."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            remedy = "Choose a directory that this user may write"
            if isinstance(error, PermissionError):
                remedy = f"{rights.REMEDY}; or choose a directory that this user may write"
            problem = Problem("state_dir", str(self.path), f"cannot be used: {error.strerror}", remedy)
            raise ConfigError("configuration", (problem,)) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            remedy = "Stop it, or give this one another state_dir and another node name"
            problem = Problem("state_dir", str(self.path), "another defectd uses it", remedy)
            raise ConfigError("configuration", (problem,)) from error
        try:
            yield
        finally:
            os.close(handle)
