"""Who uses the page, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

Role = Literal["anyone", "viewer", "operator", "engineer"]
"""anyone: also who has not logged in where users exist.  Each role may do all that those before it may."""
ROLES: Final[tuple[Role, ...]] = get_args(Role)


@dataclass(frozen=True, slots=True)
class User:
    """Who asks.  name: "" for who has not logged in."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


NOBODY: Final = User("", "anyone")
