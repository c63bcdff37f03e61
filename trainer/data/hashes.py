"""SHA-256 of files, of folders of pictures, and of words."""

from __future__ import annotations

import hashlib
from pathlib import Path

from trainer.data.pictures import SUFFIXES
from trainer.recipe import TrainingError


def hash_of(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Raises TrainingError when the file cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}") from error


def fingerprint(root: Path) -> str:
    """Changes when a picture is added, removed or written; reads no picture.  Raises TrainingError."""
    if not root.is_dir():
        raise TrainingError(f"{root}: no such folder. Give a folder with one folder of pictures for each class")
    seen = []
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES):
        status = path.stat()
        seen.append(f"{path.relative_to(root).as_posix()} {status.st_size} {status.st_mtime_ns}")
    return hash_of(*seen)
