"""One small JSON file of the state directory that is rewritten when its value changes, and never stops the daemon."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from edge.host import atomic_files, regular_file


class StateFile:
    """Replaces a file as a whole, and logs only the first of several failures in a row.  Owned by one thread."""

    def __init__(self, path: Path, log: logging.Logger, failure: str, *, mode: int = 0o600) -> None:
        """failure: the log message when the file cannot be written; the reason is appended."""
        self.path = path
        self._log = log
        self._failure = failure
        self._mode = mode
        self._is_failing = False

    def save(self, text: str) -> bool:
        """Write the file.  False when the disk refuses: the old file stays, and the caller may try again later."""
        try:
            atomic_files.replace(self.path, text.encode(), mode=self._mode)
        except OSError as error:
            if not self._is_failing:
                self._log.warning("%s: %s", self._failure, error.strerror or error)
            self._is_failing = True
            return False
        self._is_failing = False
        return True

    def load(self, max_bytes: int) -> Any:
        """The JSON value in the file.  Raises OSError, and ValueError or RecursionError for other content."""
        content = regular_file.read(self.path, max_bytes + 1)
        if len(content) > max_bytes:
            raise ValueError("it is too large")
        return json.loads(content)
