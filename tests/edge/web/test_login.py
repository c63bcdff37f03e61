"""Logging in and out, sessions, links, and who guesses passwords."""

from __future__ import annotations

import json
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from fakes.page import PASSWORDS, WEAK, add_users, page_settings, served_page

from edge.host.clock import NS_PER_S
from edge.web import entry_links, password, users_file
from edge.web.access import Access
from edge.web.login_limit import LoginLimit
from edge.web.sessions import IDLE_S, LIFE_S, STAY_S, Sessions
from edge.web.user import NOBODY, User
from edge.web.users_file import UserEntry

EDDA = UserEntry("engineer", WEAK["edda"], "2026-11-22T13:46:11.482Z")
NOW = 1_790_000_000 * NS_PER_S


# Over HTTP


def test_user_logs_in_and_out(tmp_path: Path) -> None:
    """The session gives the role of the user, and ends with the logout, for the key itself as well."""
    add_users(tmp_path)
    with served_page(tmp_path) as scene:
        client = scene.client()
        assert client.get("/api/v1/session").json["role"] is None
        assert client.get("/api/v1/state").code == "login"
        assert client.login("oskar").json | {"schema": ""} == {
            "schema": "", "user": "oskar", "role": "operator", "has_users": True, "node": "line3"
        }  # fmt: skip
        assert client.get("/api/v1/session").json["user"] == "oskar"
        kept = client.cookie
        out = client.post("/api/v1/logout")
        assert (out.json["role"], "Max-Age=0" in out.headers["Set-Cookie"]) == (None, True)
        client.cookie = kept
        assert client.get("/api/v1/session").json["user"] is None


def test_cookie_is_out_of_reach_of_scripts_and_other_sites(tmp_path: Path) -> None:
    """HttpOnly, SameSite=Strict, the whole host; behind TLS it is Secure and bound to this host by its name."""
    add_users(tmp_path)
    with served_page(tmp_path, behind_proxy=("127.0.0.1",)) as scene:
        fields = {"name": "edda", "password": PASSWORDS["edda"]}
        plain = SimpleCookie(scene.client().post("/api/v1/login", fields).headers["Set-Cookie"])
        assert plain["defectd-line3"]["httponly"]
        assert plain["defectd-line3"]["samesite"] == "Strict"
        secure = scene.client().post("/api/v1/login", fields, X_Forwarded_Proto="https").headers["Set-Cookie"]
        assert secure.startswith("__Host-defectd-line3=")
        assert secure.endswith("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure")


def test_who_guesses_is_slowed_down(tmp_path: Path) -> None:
    """After five failures in a minute even the right password is refused, also for a name that does not exist."""
    add_users(tmp_path)
    with served_page(tmp_path) as scene:
        client = scene.client()
        codes = [client.post("/api/v1/login", {"name": "x", "password": "guess"}).code for _ in range(5)]
        assert codes == ["login"] * 5
        answer = client.login("edda")
        assert (answer.status, answer.code, answer.headers.get("Set-Cookie")) == (429, "rate", None)


def test_wrong_name_and_wrong_password_get_one_answer(tmp_path: Path) -> None:
    """Nobody learns which names exist."""
    add_users(tmp_path)
    with served_page(tmp_path) as scene:
        answers = {
            scene.client().post("/api/v1/login", fields).body
            for fields in ({"name": "edda", "password": "wrong"}, {"name": "nobody", "password": "wrong"})
        }
        assert len(answers) == 1


@pytest.mark.parametrize(
    "fields", [{}, {"name": "edda"}, {"name": "edda", "password": 1}, {"name": "", "password": "x"}, [], None, "x"]
)
def test_login_takes_name_and_password_only(tmp_path: Path, fields: object) -> None:
    """Anything else is refused before a password is tried; so is a body above 1 KiB."""
    with served_page(tmp_path) as scene:
        assert scene.client().post("/api/v1/login", fields).code == "bad_value"
        long = {"name": "edda", "password": "x" * 1100}
        assert scene.client().post("/api/v1/login", long).status == 413


def test_without_users_everybody_at_the_machine_may_look(tmp_path: Path) -> None:
    """And change nothing: a link of the node gives the rights, and the refusal says so."""
    with served_page(tmp_path) as scene:
        client = scene.client()
        assert client.get("/api/v1/session").json["role"] == "viewer"
        assert client.get("/api/v1/events").status == 200
        refused = client.post("/api/v1/command", {"verb": "reload"})
        assert refused.status == 403
        assert "defectd web link" in refused.json["error"]["remedy"]


@pytest.mark.parametrize(
    "changes", [{"behind_proxy": ("127.0.0.1",)}, {"listen": ("0.0.0.0", 0), "behind_proxy": ("192.0.2.1",)}]
)
def test_without_users_the_network_sees_nothing(tmp_path: Path, changes: dict[str, object]) -> None:
    """Where others than this machine can come, a login is needed from the start."""
    with served_page(tmp_path, **changes) as scene:
        answer = scene.client().get("/api/v1/events")
        assert (answer.status, "defectd web user add" in answer.json["error"]["remedy"]) == (401, True)


def test_broken_file_of_users_lets_nobody_in(tmp_path: Path) -> None:
    """Not even as a visitor; once it is whole again, users can log in."""
    with served_page(tmp_path) as scene:
        (tmp_path / "web").mkdir(exist_ok=True)
        (tmp_path / "web" / "users.json").write_text('{"users": {"edda": {"role": "king"}}}')
        assert scene.client().get("/api/v1/events").status == 401
        add_users(tmp_path)
        assert scene.as_role("vera").get("/api/v1/events").status == 200


def test_link_opens_a_session_once(tmp_path: Path) -> None:
    """The token is exchanged for a cookie, and leaves the address by a redirect; it cannot be used again."""
    with served_page(tmp_path, base_path="/line3") as scene:
        token = entry_links.create(tmp_path / "web", scene.served.page.clock.wall_ns())
        client = scene.client()
        answer = client.get(f"/line3/enter?token={token}")
        assert (answer.status, answer.headers["Location"], answer.body) == (303, "/line3/", b"")
        client.take_cookie(answer)
        found = client.get("/line3/api/v1/session").json
        assert (found["user"], found["role"]) == ("local", "engineer")
        again = scene.client().get(f"/line3/enter?token={token}")
        assert (again.status, again.headers.get("Set-Cookie")) == (403, None)
        assert client.get(f"/line3/enter?token={token}").status == 303, "who has used it is let in"


# Links


def test_link_ends_after_ten_minutes_and_is_not_kept_in_clear(tmp_path: Path) -> None:
    """The folder holds hashes; wrong, empty and hostile tokens are refused without an error."""
    token = entry_links.create(tmp_path / "web", NOW)
    files = list((tmp_path / "web" / "links").iterdir())
    assert token not in files[0].name + files[0].read_text()
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "web", *files)] == [0o700, 0o600]
    for wrong in ("", "x" * 43, "../../../etc/passwd", "\0", "ü" * 43, token + "x"):
        assert not entry_links.take(tmp_path / "web", wrong, NOW)
    assert not entry_links.take(tmp_path / "web", token, NOW + 601 * NS_PER_S)


def test_open_links_are_few(tmp_path: Path) -> None:
    """The oldest leave when there are more than twenty."""
    for at in range(30):
        last = entry_links.create(tmp_path / "web", NOW + at)
    assert len(list((tmp_path / "web" / "links").iterdir())) == entry_links.MAX_OPEN
    assert entry_links.take(tmp_path / "web", last, NOW + 30)


# Sessions


def user_of(sessions: Sessions, key: str, now: int, entry: UserEntry | None = EDDA) -> User | None:
    return sessions.user_of(key, {} if entry is None else {"edda": entry}, now)


def test_session_outlives_the_process_and_its_key_is_not_kept(tmp_path: Path) -> None:
    """The file holds a hash of the key and is for the owner alone."""
    path = tmp_path / "web" / "sessions.json"
    key = Sessions(path).open_for_user("edda", EDDA, NOW)
    assert key not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert user_of(Sessions(path), key, NOW) == User("edda", "engineer")


def test_session_ends_by_time(tmp_path: Path) -> None:
    """After two hours without a request, and after twelve hours in any case; a clock set back ends it as well."""
    path = tmp_path / "web" / "sessions.json"
    for elapsed_s in (IDLE_S + 1, -3600):
        sessions = Sessions(path)
        key = sessions.open_for_user("edda", EDDA, NOW)
        assert user_of(sessions, key, NOW + elapsed_s * NS_PER_S) is None
        assert user_of(sessions, key, NOW) is None, "it does not come back"
    key, now = sessions.open_for_user("edda", EDDA, NOW), NOW
    while now < NOW + LIFE_S * NS_PER_S:
        assert user_of(sessions, key, now) is not None
        now += 3600 * NS_PER_S
    assert user_of(sessions, key, now + NS_PER_S) is None


def test_session_ends_with_the_password_and_with_the_user(tmp_path: Path) -> None:
    """A change of the role holds at once."""
    sessions = Sessions(tmp_path / "web" / "sessions.json")
    demoted = UserEntry("viewer", EDDA.password, EDDA.changed)
    changed = UserEntry("engineer", WEAK["vera"], EDDA.changed)
    for entry, expected in ((demoted, User("edda", "viewer")), (changed, None), (None, None)):
        key = sessions.open_for_user("edda", EDDA, NOW)
        assert user_of(sessions, key, NOW, entry) == expected


def test_wall_screen_stays(tmp_path: Path) -> None:
    """A session of a user who stays lasts for weeks without a request."""
    wall = UserEntry("viewer", EDDA.password, EDDA.changed, stays=True)
    sessions = Sessions(tmp_path / "web" / "sessions.json")
    key = sessions.open_for_user("edda", wall, NOW)
    assert user_of(sessions, key, NOW + (STAY_S - 1) * NS_PER_S, wall) == User("edda", "viewer")


def test_sessions_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many, the one that was used longest ago ends."""
    monkeypatch.setattr("edge.web.sessions.MAX_SESSIONS", 5)
    sessions = Sessions(tmp_path / "web" / "sessions.json")
    first = sessions.open_for_link(NOW)
    for at in range(5):
        last = sessions.open_for_link(NOW + at + 1)
    assert len(sessions) == 5
    assert (user_of(sessions, first, NOW + 300), user_of(sessions, last, NOW + 300)) == (
        None,
        User("local", "engineer"),
    )


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"sessions": {"a": {"name": 1}}}', '{"sessions": []}', "\0"])
def test_damaged_file_of_sessions_ends_them_all(tmp_path: Path, content: str) -> None:
    """Everybody logs in again; the page starts."""
    path = tmp_path / "sessions.json"
    path.write_text(content)
    assert len(Sessions(path)) == 0


# Guessing


def test_failures_are_limited_by_name_and_by_address() -> None:
    """Five at once, then one each twelve seconds; a right password forgets the typing errors."""
    limit, clock = LoginLimit(), FakeClock()
    assert [limit.take("edda", "192.0.2.1", clock.monotonic_ns()) for _ in range(6)] == [True] * 5 + [False]
    assert not limit.take("edda", "192.0.2.2", clock.monotonic_ns()), "the name, from elsewhere"
    assert not limit.take("oskar", "192.0.2.1", clock.monotonic_ns()), "the address, for another name"
    clock.advance(12.5)
    assert limit.take("edda", "192.0.2.1", clock.monotonic_ns())
    limit.succeeded("edda", "192.0.2.1")
    assert limit.take("edda", "192.0.2.1", clock.monotonic_ns())


def test_limit_does_not_grow() -> None:
    """Ten thousand names need no more memory than two thousand."""
    limit = LoginLimit()
    for number in range(10_000):
        limit.take(f"name{number}", "192.0.2.1", number)
    assert len(limit._buckets) <= 2000


# Passwords and their file


def test_password_is_kept_as_a_slow_hash() -> None:
    """With a salt of its own; only the same text matches it, and damage matches nothing."""
    kept = password.hashed("a long password")
    assert kept.startswith("scrypt$32768$8$1$")
    assert kept != password.hashed("a long password")
    assert password.matches("a long password", kept)
    for wrong in (kept[:-1], kept + "00", "", "scrypt$1$1", "scrypt$32768$8$1$zz$zz", kept.replace("32768", "3")):
        assert not password.matches("a long password", wrong)
    assert not password.matches("A long password", kept)
    assert not password.matches("", password.NO_PASSWORD)


def test_file_of_users_is_read_when_it_changes(tmp_path: Path) -> None:
    """`defectd web user` needs no restart; the file is for the owner alone."""
    access = Access(page_settings(tmp_path), FakeClock())
    assert access.user_of("") == User("", "viewer")
    path = tmp_path / "web" / "users.json"
    users_file.write(path, {"edda": EDDA})
    assert path.stat().st_mode & 0o777 == 0o600
    assert access.users() == {"edda": EDDA}
    assert access.user_of("") == NOBODY
    assert json.loads(path.read_text())["schema"] == "defectd.users/1"
    path.unlink()
    assert access.user_of("") == User("", "viewer")
