"""web: the page of this node, its users, and a link for who sits at it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli.exit_codes import exits_with_reason
from edge.cli.options import config_option, found_config, json_option
from edge.cli.progress import echo, note

if TYPE_CHECKING:
    from edge.web.users_file import UserEntry

password_file_option = click.option(
    "--password-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
    help="A file that holds only the password; - is stdin. Without it, the terminal asks.",
)
role_option = click.option(
    "--role",
    type=click.Choice(["viewer", "operator", "engineer"]),
    required=True,
    help="viewer looks. operator also labels, pauses, names coils. engineer also changes what is inspected.",
)
name_argument = click.argument("name")


@click.group(invoke_without_command=True, short_help="Serve the page; its users; a link to it.")
@click.pass_context
@click.option("-c", "--config", "config_path", type=click.Path(path_type=Path), help="The configuration file.")
@exits_with_reason
def web(context: click.Context, config_path: Path | None) -> None:
    """Serve the page of this node, where the daemon does not start it itself (web.process: unit).

    \b
    Examples:
      defectd web -c config.yaml             serve the page until SIGTERM
      defectd web link                       print a link that opens the page as engineer, once, for 10 minutes
      defectd web user add ANNA --role operator
    """
    if context.invoked_subcommand is None:
        _serve(found_config(config_path))


def _serve(config_path: Path) -> None:
    """Become the page process: what it imports is less than what reading the configuration took."""
    from edge import config
    from edge.page_settings import page_settings

    text = page_settings(config.load(config_path), config_path).to_json()
    stdin = os.memfd_create("settings")
    with os.fdopen(os.dup(stdin), "w", encoding="utf-8") as file:
        file.write(text)
    os.lseek(stdin, 0, os.SEEK_SET)
    os.dup2(stdin, 0)
    os.execv(sys.executable, [sys.executable, "-P", "-m", "edge.web"])  # noqa: S606 (our own module)


@web.command(short_help="Print a link that opens the page as engineer, once.")
@config_option
@json_option
@exits_with_reason
def link(config_path: Path, as_json: bool) -> None:
    """Print a link that opens the page with the rights of an engineer, once, within 10 minutes.

    For who sits at the node, or can log in there: whoever can read the state directory.

    \b
    Examples:
      defectd web link
    """
    import json

    made = entry_link(config_path)
    click.echo(json.dumps({"link": made}) if as_json else made)


def entry_link(config_path: Path, base: str | None = None) -> str:
    """A new link.  base: the address of the page, where it is not that of the configuration.  Raises ConfigError."""
    from edge import config
    from edge.host.clock import SystemClock
    from edge.page_settings import page_settings
    from edge.web import entry_links

    settings = page_settings(config.load(config_path), config_path)
    token = entry_links.create(settings.web_dir, SystemClock().wall_ns())
    return f"{base or settings.url}enter?token={token}"


@web.group(short_help="Users of the page.")
def user() -> None:
    """Users of the page. They are kept in the state directory, their passwords as hashes.

    \b
    Examples:
      defectd web user list
    """


@user.command()
@config_option
@name_argument
@role_option
@password_file_option
@click.option("--stay", is_flag=True, help="For a wall screen: its sessions last 90 days. Viewers only.")
@exits_with_reason
def add(config_path: Path, name: str, role: Any, password_file: Path | None, stay: bool) -> None:
    """Add a user. From the first user on, everybody has to log in.

    \b
    Examples:
      defectd web user add edda --role operator
    """
    from edge.web import users_file
    from edge.web.users_file import UserEntry

    path, users = _users(config_path)
    if not users_file.NAME.fullmatch(name):
        raise click.BadParameter("letters, digits, and . _ - @, at most 63", param_hint="NAME")
    if name in users:
        raise click.ClickException(f"there is a user {name}; see `defectd web user password` and `remove`")
    if len(users) >= users_file.MAX_USERS:
        raise click.ClickException(f"there are {len(users)} users; remove one first")
    if stay and role != "viewer":
        raise click.BadParameter("only a viewer may stay: nobody watches that screen", param_hint="--stay")
    _write(path, {**users, name: UserEntry(role, _hashed(password_file), _now(), stay)})
    note(f"{name} may log in as {role}")


@user.command("list")
@config_option
@json_option
@exits_with_reason
def list_users(config_path: Path, as_json: bool) -> None:
    """List the users and their roles.

    \b
    Examples:
      defectd web user list
    """
    import json

    _, users = _users(config_path)
    for name, entry in sorted(users.items()):
        if as_json:
            fields = {"name": name, "role": entry.role, "changed": entry.changed, "stays": entry.stays}
            click.echo(json.dumps(fields))
        else:
            echo(f"{name:24} {entry.role:10} changed {entry.changed}{', stays' if entry.stays else ''}")
    if not users and not as_json:
        note("no users: on this machine everybody may look, and a link of `defectd web link` may change things")


@user.command()
@config_option
@name_argument
@exits_with_reason
def remove(config_path: Path, name: str) -> None:
    """Remove a user. Its sessions end at once.

    \b
    Examples:
      defectd web user remove edda
    """
    path, users = _users(config_path, name)
    _write(path, {known: entry for known, entry in users.items() if known != name})
    note(f"{name} was removed")
    if len(users) == 1:
        note("that was the last user: on this machine everybody may look again")


@user.command()
@config_option
@name_argument
@password_file_option
@exits_with_reason
def password(config_path: Path, name: str, password_file: Path | None) -> None:
    """Change a user's password. Its sessions end at once.

    \b
    Examples:
      defectd web user password edda
    """
    path, users = _users(config_path, name)
    entry = replace(users[name], password=_hashed(password_file), changed=_now())
    _write(path, {**users, name: entry})
    note(f"{name} has a new password, and has to log in again")


@user.command()
@config_option
@name_argument
@role_option
@exits_with_reason
def role(config_path: Path, name: str, role: Any) -> None:
    """Change a user's role. It holds at once.

    \b
    Examples:
      defectd web user role edda engineer
    """
    path, users = _users(config_path, name)
    _write(path, {**users, name: replace(users[name], role=role, changed=_now(), stays=False)})
    note(f"{name} is {role} now")


def _users(config_path: Path, name: str | None = None) -> tuple[Path, Mapping[str, UserEntry]]:
    """The file of users and its content.  name: a user that must be there."""
    from edge import config
    from edge.config import StateDir
    from edge.web import users_file

    path = StateDir(config.state_dir_of(config_path)).page_users
    try:
        users = users_file.read(path)
    except ValueError as error:
        raise click.ClickException(f"{path}: {error}. Remove the file, and add the users again") from None
    if name is not None and name not in users:
        raise click.ClickException(f"there is no user {name}; see `defectd web user list`")
    return path, users


def _write(path: Path, users: Mapping[str, UserEntry]) -> None:
    from edge.cli.progress import uninterrupted
    from edge.web import users_file

    with uninterrupted():
        users_file.write(path, users)


def _hashed(password_file: Path | None) -> str:
    """The new password, as it is kept; from the file, or asked for twice."""
    from edge.web import password as passwords

    if password_file is not None:
        with click.open_file(str(password_file), encoding="utf-8") as file:
            text = file.read(4096).rstrip("\r\n")
    else:
        text = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    if not passwords.MIN_CHARACTERS <= len(text) <= passwords.MAX_CHARACTERS:
        raise click.ClickException(
            f"a password has {passwords.MIN_CHARACTERS} to {passwords.MAX_CHARACTERS} characters"
        )
    return passwords.hashed(text)


def _now() -> str:
    from edge.host.clock import SystemClock, stamp

    return stamp(SystemClock().wall_ns())
