"""The users of the page: `state_dir/web/users.json`, written by `defectd web user` alone, read by the page process."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.host import atomic_files, regular_file
from edge.web.user import ROLES, Role

SCHEMA: Final = "defectd.users/1"
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}")
MAX_USERS: Final = 200
MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class UserEntry:
    """One user.  password: as `password.hashed` keeps it.  changed: UTC, of the last change."""

    role: Role
    password: str
    changed: str
    stays: bool = False
    """A wall screen: its sessions do not end by time.  For viewers only."""


def read(path: Path) -> Mapping[str, UserEntry]:
    """By name; none without a file.  Raises OSError, and ValueError for a file that is not whole."""
    try:
        data = json.loads(regular_file.read(path, MAX_BYTES))
        return {str(name): _entry(fields) for name, fields in data["users"].items()}
    except FileNotFoundError:
        return {}
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a file of users: {error!r}") from None


def write(path: Path, users: Mapping[str, UserEntry]) -> None:
    """Replace the file.  Only its owner, who is that of the state directory, can read it.  Raises OSError."""
    prepare_folder(path.parent)
    fields = {
        name: {"role": user.role, "password": user.password, "changed": user.changed, "stays": user.stays}
        for name, user in sorted(users.items())
    }
    content = json.dumps({"schema": SCHEMA, "users": fields}, indent=1).encode()
    atomic_files.replace(path, content, owner=path.parent.stat())


def prepare_folder(folder: Path) -> None:
    """Make the folder of the page, owned by who owns the state directory.  Raises OSError."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    owner = folder.parent.stat()
    if os.geteuid() == 0:
        os.chown(folder, owner.st_uid, owner.st_gid)


def _entry(fields: Mapping[str, Any]) -> UserEntry:
    role = fields["role"]
    if role not in ROLES or role == "anyone":
        raise ValueError("not a file of users: an unknown role")
    return UserEntry(role, str(fields["password"]), str(fields["changed"]), bool(fields.get("stays")))
