"""What a set-up writes: the configuration, and a file for each secret beside it; and the way back."""

from __future__ import annotations

import difflib
import hashlib
import stat
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from edge.config import secret_file
from edge.config.new_file import NewConfig, text_of
from edge.host import atomic_files

BEFORE: Final = ".before"
"""Ends the name of the configuration before the last set-up."""
NEW_FILE_MODE: Final = 0o644
MAX_SECRETS: Final = 100
"""Files of one name, numbered."""


@dataclass(slots=True)
class SetupFiles:
    """The file of the configuration, and secrets by the names of their files."""

    path: Path
    secrets: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.path.resolve().parent

    @property
    def before(self) -> Path:
        return self.path.with_name(self.path.name + BEFORE)

    def keep_secret(self, wanted: str, secret: str) -> str:
        """The name of a file for a secret.  One that holds another secret is never overwritten: it may be in use."""
        names = (wanted if number == 1 else f"{wanted}-{number}" for number in range(1, MAX_SECRETS + 1))
        name = next(name for name in names if name not in self.secrets and self._may_hold(self.folder / name, secret))
        self.secrets[name] = secret
        return name

    def forget(self, reference: str) -> None:
        """Forget the secret to which a source or a key refers: it is asked for again."""
        for name in [*self.secrets]:
            if name == reference or f"${{file:{name}}}" in reference:
                del self.secrets[name]

    def with_login(self, source: str, camera: str, user: str, password: str) -> str:
        """The URL with a user, and a reference to a file with the password."""
        parts = urlsplit(source)
        name = self.keep_secret(f"camera-{camera}-password", password)
        return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:${{file:{name}}}@{parts.netloc}"))

    def place_secrets(self, folder: Path) -> None:
        """Write them, readable by this user alone.  Raises OSError."""
        for name, secret in self.secrets.items():
            atomic_files.replace(folder / name, f"{secret}\n".encode())

    def on_trial(self, new: NewConfig, folder: Path) -> NewConfig:
        """The same, with its secrets in a folder of the trial."""
        cameras = new.cameras
        for name in self.secrets:
            here, there = f"${{file:{name}}}", f"${{file:{folder / name}}}"
            cameras = [replace(camera, source=camera.source.replace(here, there)) for camera in cameras]
        broker = new.broker
        if broker is not None and broker.password_file in self.secrets:
            broker = replace(broker, password_file=str(folder / broker.password_file))
        return replace(new, cameras=cameras, broker=broker)

    def present(self) -> str | None:
        """The text of the file now; None: there is none.  Raises OSError."""
        try:
            return self.path.read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            return None

    def difference(self, text: str) -> str:
        """From the present text to this one, as `diff -u` writes it; "" where nothing differs."""
        lines = (self.present() or "").splitlines(), text.splitlines()
        return "\n".join(difflib.unified_diff(*lines, str(self.path), "new", n=2, lineterm=""))

    def write(self, new: NewConfig) -> str:
        """Write secrets and configuration, and keep the one before.  Returns its text.  Raises OSError, ConfigError."""
        before = self.present()
        text = text_of(new, before)
        self.place_secrets(self.folder)
        mode = NEW_FILE_MODE
        if before is not None and before != text:
            mode = stat.S_IMODE(self.path.stat().st_mode)
            atomic_files.replace(self.before, self.path.read_bytes(), mode=mode, owner=self.path.stat())
        owner = self.path.stat() if before is not None else None
        atomic_files.replace(self.path, text.encode(), mode=mode, owner=owner)
        return text

    def undo(self) -> None:
        """Exchange the configuration with the one before it.  Raises OSError."""
        earlier, present = self.before.read_bytes(), self.path.read_bytes()
        found = self.path.stat()
        mode = stat.S_IMODE(found.st_mode)
        atomic_files.replace_all({self.before: present, self.path: earlier}, mode=mode, owner=found)

    @staticmethod
    def _may_hold(path: Path, secret: str) -> bool:
        with suppress(FileNotFoundError):
            return secret_file.text_of(path.read_text("utf-8", "replace")) == secret
        return True


def digest(text: str | None) -> str | None:
    """SHA-256 of a file's text; None of none."""
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()
