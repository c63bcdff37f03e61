"""Who makes a request: sessions, logins, links, and what somebody without a session may see."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from edge.host.clock import Clock, stamp
from edge.host.log_throttle import LogThrottle
from edge.host.text import one_line
from edge.web import entry_links, password, users_file
from edge.web.login_limit import LoginLimit
from edge.web.refusal import Refusal
from edge.web.sessions import LIFE_S, STAY_S, Sessions
from edge.web.settings import PageSettings
from edge.web.user import NOBODY, User
from edge.web.users_file import UserEntry
from edge.web.work_thread import WorkThread

log = logging.getLogger(__name__)

USERS: Final = "users.json"
SESSIONS: Final = "sessions.json"
VISITOR: Final = User("", "viewer")
MAX_WAITING_LOGINS: Final = 4


class Access:
    """Owned by the page process; all methods run on its loop."""

    def __init__(self, settings: PageSettings, clock: Clock) -> None:
        """Raises OSError."""
        self._settings = settings
        self._clock = clock
        self._path = settings.web_dir / USERS
        self._sessions = Sessions(settings.web_dir / SESSIONS)
        self._limit = LoginLimit()
        self._thread = WorkThread("web-login", clock, MAX_WAITING_LOGINS)
        self._throttle = LogThrottle(log)
        self._users: Mapping[str, UserEntry] = {}
        self._users_stamp: tuple[int, int, int] | None = None
        self._is_broken = False

    def start(self) -> None:
        """Raises RuntimeError when the machine allows no more threads."""
        self._thread.start()

    def stop(self) -> None:
        self._note_uses()
        self._thread.stop(1.0)

    def cookie_name(self, *, is_secure: bool) -> str:
        """Of this node alone: cookies do not know ports."""
        return f"__Host-defectd-{self._settings.node}" if is_secure else f"defectd-{self._settings.node}"

    @property
    def has_users(self) -> bool:
        return self._is_broken or bool(self.users())

    def users(self) -> Mapping[str, UserEntry]:
        """As the file names them now.  While it cannot be read nobody is known, and nobody is let in."""
        try:
            found = self._path.stat()
            stamp = found.st_mtime_ns, found.st_ino, found.st_size
            if stamp != self._users_stamp:
                self._users = users_file.read(self._path)
                self._users_stamp = stamp
            self._is_broken = False
        except FileNotFoundError:
            self._users, self._users_stamp, self._is_broken = {}, None, False
        except (OSError, ValueError) as error:
            self._users, self._users_stamp, self._is_broken = {}, None, True
            self._throttle.write(logging.ERROR, f"no user can log in: {error}", self._clock.monotonic_ns())
        return self._users

    def people(self) -> list[dict[str, Any]]:
        """Every user with role, number of open sessions, and their last use; and who came by a link of the node."""
        users, open_now = self.users(), self._sessions.open_now(self.users(), self._clock.wall_ns())
        names = [*sorted(users), *sorted({name for name, _ in open_now} - set(users))]
        used = {name: [at_ns for one, at_ns in open_now if one == name] for name in names}
        return [
            {
                "name": name,
                "role": users[name].role if name in users else "engineer",
                "is_user": name in users,
                "sessions": len(used[name]),
                "last_used": stamp(max(used[name])) if used[name] else None,
            }
            for name in names
        ]

    def user_of(self, key: str) -> User:
        """Who has the session of this key; without one: a visitor, or nobody."""
        users = self.users()
        found = self._sessions.user_of(key, users, self._clock.wall_ns()) if key else None
        self._note_uses()
        if found is not None:
            return found
        is_private = self._settings.is_loopback and not self._settings.behind_proxy
        return VISITOR if is_private and not users and not self._is_broken else NOBODY

    async def login(self, name: str, secret: str, client: str, *, is_secure: bool) -> str:
        """The cookie of a new session.  Raises Refusal, OSError."""
        if not self._limit.take(name, client, self._clock.monotonic_ns()):
            log.warning("too many logins as %s from %s", one_line(name, 64), client)
            raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, "rate", "too many attempts", "Wait a minute, then try again")
        entry = self.users().get(name)
        kept = password.NO_PASSWORD if entry is None else entry.password
        is_right = await self._thread.run(password.matches, secret, kept)
        if entry is None or not is_right:
            log.warning("a login as %s from %s failed", one_line(name, 64), client)
            raise Refusal(HTTPStatus.FORBIDDEN, "login", "name or password is wrong")
        self._limit.succeeded(name, client)
        log.info("%s (%s) logged in from %s", name, entry.role, client)
        key = self._sessions.open_for_user(name, entry, self._clock.wall_ns())
        return self._cookie(key, STAY_S if entry.stays else LIFE_S, is_secure=is_secure)

    def enter(self, token: str, client: str, *, is_secure: bool) -> str | None:
        """The cookie of a session for who has a link; None when the link is not valid.  Raises OSError."""
        if not entry_links.take(self._settings.web_dir, token, self._clock.wall_ns()):
            return None
        log.info("a link of this node was used from %s: engineer", client)
        return self._cookie(self._sessions.open_for_link(self._clock.wall_ns()), LIFE_S, is_secure=is_secure)

    def logout(self, key: str, *, is_secure: bool) -> str:
        """End a session.  The cookie that removes its key.  Raises OSError."""
        self._sessions.end(key)
        return self._cookie("", 0, is_secure=is_secure)

    def _cookie(self, key: str, life_s: int, *, is_secure: bool) -> str:
        secure = "; Secure" if is_secure else ""
        name = self.cookie_name(is_secure=is_secure)
        return f"{name}={key}; Path=/; Max-Age={life_s}; HttpOnly; SameSite=Strict{secure}"

    def _note_uses(self) -> None:
        try:
            self._sessions.note_uses(self._clock.wall_ns())
        except OSError as error:
            self._throttle.write(logging.WARNING, f"sessions are not kept: {error}", self._clock.monotonic_ns())
