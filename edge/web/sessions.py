"""Sessions: random keys, of which the node keeps hashes alone; they end by time, logout and password change."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from edge.host import atomic_files, regular_file
from edge.host.clock import NS_PER_S
from edge.web.user import Role, User
from edge.web.users_file import UserEntry, prepare_folder

SCHEMA: Final = "defectd.sessions/1"
LIFE_S: Final = 12 * 3600
IDLE_S: Final = 2 * 3600
STAY_S: Final = 90 * 86_400
"""Of a user who stays: a wall screen."""
MAX_SESSIONS: Final = 200
WRITE_EVERY_NS: Final = 60 * NS_PER_S
"""A use is noted on the disk this often, so that a restart ends no session that is in use."""
MAX_BYTES: Final = 1 << 20
KEY_CHARACTERS: Final = 43


@dataclass(frozen=True, slots=True)
class Session:
    """Times are wall times.  password: a hash of what the user's password was kept as; "" for one from a link."""

    name: str
    created_ns: int
    used_ns: int
    password: str = ""
    role: Role = "engineer"
    """Of one from a link; a user's role is the one in the file of users now."""


class Sessions:
    """The sessions of this node.  Owned by the loop of the page process."""

    def __init__(self, path: Path) -> None:
        """Raises OSError when the file cannot be read; a damaged one ends all sessions."""
        self._path = path
        self._written_ns = 0
        self._by_hash: dict[str, Session] = {}
        try:
            stored = json.loads(regular_file.read(path, MAX_BYTES))
            self._by_hash = {str(key): Session(**fields) for key, fields in stored["sessions"].items()}
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            pass  # none yet, or damaged: everybody logs in again

    def open_for_user(self, name: str, entry: UserEntry, wall_ns: int) -> str:
        """The key of a new session.  Raises OSError."""
        return self._open(Session(name, wall_ns, wall_ns, fingerprint(entry), entry.role), wall_ns)

    def open_for_link(self, wall_ns: int) -> str:
        """The key of a new session for a person at the node.  Raises OSError."""
        return self._open(Session("local", wall_ns, wall_ns), wall_ns)

    def user_of(self, key: str, users: Mapping[str, UserEntry], wall_ns: int) -> User | None:
        """Who has this session; None when it has ended.  Counts as a use."""
        if len(key) != KEY_CHARACTERS:
            return None
        hashed = _hash(key)
        session = self._by_hash.get(hashed)
        if session is None:
            return None
        entry = users.get(session.name) if session.password else None
        if not _holds(session, entry, wall_ns):
            del self._by_hash[hashed]
            self._written_ns = 0
            return None
        if wall_ns - session.used_ns > NS_PER_S:
            self._by_hash[hashed] = replace(session, used_ns=wall_ns)
        return User(session.name, session.role if entry is None else entry.role)

    def open_now(self, users: Mapping[str, UserEntry], wall_ns: int) -> list[tuple[str, int]]:
        """The name and the last use of every session that has not ended."""
        return [
            (one.name, one.used_ns)
            for one in self._by_hash.values()
            if _holds(one, users.get(one.name) if one.password else None, wall_ns)
        ]

    def end(self, key: str) -> None:
        """End a session; safe for one that has ended.  Raises OSError: it may come back at a restart."""
        if self._by_hash.pop(_hash(key), None) is not None:
            self._write(self._written_ns)

    def note_uses(self, wall_ns: int) -> None:
        """Write the uses now and then.  Raises OSError."""
        if self._by_hash and wall_ns - self._written_ns > WRITE_EVERY_NS:
            self._write(wall_ns)

    def __len__(self) -> int:
        return len(self._by_hash)

    def _open(self, session: Session, wall_ns: int) -> str:
        key = secrets.token_urlsafe(32)
        while len(self._by_hash) >= MAX_SESSIONS:
            del self._by_hash[min(self._by_hash, key=lambda one: self._by_hash[one].used_ns)]
        self._by_hash[_hash(key)] = session
        self._write(wall_ns)
        return key

    def _write(self, wall_ns: int) -> None:
        prepare_folder(self._path.parent)
        fields = {key: asdict(session) for key, session in self._by_hash.items()}
        atomic_files.replace(self._path, json.dumps({"schema": SCHEMA, "sessions": fields}).encode())
        self._written_ns = wall_ns


def fingerprint(entry: UserEntry) -> str:
    """Changes with the password."""
    return hashlib.sha256(entry.password.encode()).hexdigest()[:32]


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _holds(session: Session, entry: UserEntry | None, wall_ns: int) -> bool:
    """Whether a session goes on.  A clock that was set back does not lengthen it."""
    if session.password and (entry is None or fingerprint(entry) != session.password):
        return False
    life_s, idle_s = (STAY_S, STAY_S) if entry is not None and entry.stays else (LIFE_S, IDLE_S)
    age_ns, idle_ns = wall_ns - session.created_ns, wall_ns - session.used_ns
    return -60 * NS_PER_S <= age_ns <= life_s * NS_PER_S and idle_ns <= idle_s * NS_PER_S
