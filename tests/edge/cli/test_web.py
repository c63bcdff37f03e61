"""The users of the page and its link, as the command line makes them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from edge.cli import main
from edge.host.clock import SystemClock
from edge.web import entry_links, password, users_file


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"node": "line3", "cameras": [{"name": "top", "source": "strip:"}]}))
    (tmp_path / "password").write_text("a long password\n")
    return path


def run(path: Path, *arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, ["web", *arguments, "-c", str(path)], input=text)


def users(path: Path) -> dict[str, str]:
    return {name: entry.role for name, entry in users_file.read(path.parent / "var/web/users.json").items()}


def test_users_are_added_listed_changed_and_removed(config_path: Path) -> None:
    """The password comes from a file or the terminal; only its hash is kept, for the owner alone."""
    from_file = ("--password-file", str(config_path.parent / "password"))
    assert run(config_path, "user", "add", "anna", "--role", "operator", *from_file).exit_code == 0
    asked = run(config_path, "user", "add", "wall", "--role", "viewer", "--stay", text="another password\n" * 2)
    assert asked.exit_code == 0, asked.output
    assert "another password" not in asked.output
    listed = [json.loads(line) for line in run(config_path, "user", "list", "--json").stdout.splitlines()]
    assert [(user["name"], user["role"], user["stays"]) for user in listed] == [
        ("anna", "operator", False),
        ("wall", "viewer", True),
    ]
    path = config_path.parent / "var/web/users.json"
    assert "long password" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert password.matches("a long password", users_file.read(path)["anna"].password)
    assert run(config_path, "user", "role", "anna", "--role", "engineer").exit_code == 0
    assert run(config_path, "user", "password", "anna", text="yet another one\n" * 2).exit_code == 0
    assert password.matches("yet another one", users_file.read(path)["anna"].password)
    assert run(config_path, "user", "remove", "wall").exit_code == 0
    assert users(config_path) == {"anna": "engineer"}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("user", "add", "anna", "--role", "viewer"), "there is a user anna"),
        (("user", "add", "a b", "--role", "viewer"), "letters, digits"),
        (("user", "add", "../x", "--role", "viewer"), "letters, digits"),
        (("user", "add", "eve", "--role", "operator", "--stay"), "only a viewer"),
        (("user", "add", "eve", "--role", "king"), "is not one of"),
        (("user", "remove", "eve"), "there is no user eve"),
        (("user", "password", "eve"), "there is no user eve"),
    ],
)
def test_wrong_user_is_refused_with_a_reason(config_path: Path, arguments: tuple[str, ...], reason: str) -> None:
    """And the others stay as they are; no option takes a password."""
    from_file = ("--password-file", str(config_path.parent / "password"))
    assert run(config_path, "user", "add", "anna", "--role", "viewer", *from_file).exit_code == 0
    more = from_file if arguments[1] in ("add", "password") else ()
    refused = run(config_path, *arguments, *more)
    assert refused.exit_code != 0
    assert reason in refused.output
    assert users(config_path) == {"anna": "viewer"}


@pytest.mark.parametrize("text", ["short\n", "", "x" * 300])
def test_password_that_is_too_short_or_too_long_is_refused(config_path: Path, text: str) -> None:
    """Ten characters at least."""
    (config_path.parent / "password").write_text(text)
    option = ("--password-file", str(config_path.parent / "password"))
    refused = run(config_path, "user", "add", "anna", "--role", "viewer", *option)
    assert (refused.exit_code, "10 to 200 characters" in refused.output) == (1, True)


def test_users_can_be_added_although_the_configuration_is_wrong(config_path: Path) -> None:
    """A page that needs them may be what is wrong: only the state directory counts."""
    config_path.write_text("node: line3\nweb: {listen: '0.0.0.0:8480'}\n")
    added = run(config_path, "user", "add", "anna", "--role", "viewer", text="a long password\n" * 2)
    assert added.exit_code == 0, added.output


def test_link_is_valid_once(config_path: Path) -> None:
    """It names the address of the page, and its token opens a session."""
    link = json.loads(run(config_path, "link", "--json").stdout)["link"]
    address, token = link.split("enter?token=")
    assert address == "http://127.0.0.1:8480/"
    now = SystemClock().wall_ns()
    folder = config_path.parent / "var/web"
    assert [entry_links.take(folder, token, now) for _ in range(2)] == [True, False]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_of_root_belong_to_who_runs_the_daemon(config_path: Path) -> None:
    """`sudo defectd web user add` must not lock the page out of its own files."""
    (config_path.parent / "var").mkdir()
    os.chown(config_path.parent / "var", 12345, 12345)
    run(config_path, "user", "add", "anna", "--role", "viewer", text="a long password\n" * 2)
    run(config_path, "link")
    folder = config_path.parent / "var/web"
    owners = {path.stat().st_uid for path in (folder, *folder.rglob("*"))}
    assert (owners, len(list(folder.rglob("*")))) == ({12345}, 3)


def test_node_without_a_page_has_no_link(config_path: Path) -> None:
    """`web.listen: null` turns the page off."""
    config_path.write_text(config_path.read_text() + "web: {listen: null}\n")
    for arguments in ((), ("link",)):
        refused = run(config_path, *arguments)
        assert (refused.exit_code, "this node has no page" in refused.output) == (78, True)
