"""Reads a YAML file into plain values: bounded, without surprises, with its references filled in.

YAML 1.1 as PyYAML reads it, without the parts that only do harm in a configuration: repeated keys, dates, tags, and
documents that expand without end. No message repeats the text of the file: it may hold a password.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from edge.config import secret_file
from edge.errors import ConfigError, Problem
from edge.host import atomic_files, regular_file, rights, url
from edge.host.text import is_valid, one_line

MAX_BYTES: Final = 512 * 1024
MAX_REFERENCED_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 24
MAX_VALUES: Final = 20_000
"""Keys and values after all aliases are expanded."""
MAX_INTEGER: Final = 1 << 63
CREDENTIAL: Final = "credential:"
CREDENTIALS_DIRECTORY: Final = "CREDENTIALS_DIRECTORY"
"""Folder in which systemd puts the files that a unit's LoadCredential= names.  Source: systemd.exec(5)."""

_PLAIN_TAGS: Final = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map")}
_QUOTES: Final = "a text that starts with & * ! % @ or ` needs quotes"


def read(path: Path, *, may_be_pipe: bool = False) -> object:
    """The file's value.  Raises ConfigError, which names the place but never the text there.

    may_be_pipe: wait for what comes out of a pipe; otherwise the file must be a regular one.
    """
    origin = str(path)
    try:
        with path.open("rb") if may_be_pipe else regular_file.opened(path) as file:
            raw = file.read(MAX_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise _refused(origin, "cannot be read: there is no such file", "Give a YAML file with -c") from error
    except (OSError, ValueError) as error:
        raise _refused(origin, f"cannot be read: {error}", "Give a readable YAML file with -c") from error
    if len(raw) > MAX_BYTES:
        raise _refused(origin, f"is larger than {MAX_BYTES // 1024} KiB", "Give a configuration, not data")
    return _value(text, origin)


def parsed(raw: bytes, origin: str) -> object:
    """The value of a text that is not in a file yet.  Raises ConfigError as `read`."""
    try:
        return _value(raw.decode("utf-8"), origin)
    except ValueError as error:
        raise _refused(origin, f"cannot be read: {error}", "Give YAML in UTF-8") from error


@dataclass(frozen=True, slots=True)
class Span:
    """Where a value stands in its text, as indices.

    key, column: of its key.  is_plain: no mapping or list.  inner: by key, in a mapping that has a line for each.
    items: the first character of each, in a list that has a line for each.
    """

    key: int
    column: int
    start: int
    end: int
    is_plain: bool
    inner: Mapping[str, Span]
    items: tuple[int, ...]


def spans(text: str) -> Mapping[str, Span]:
    """The values of a YAML mapping by their keys; empty for anything else.  Raises ConfigError."""
    try:
        return _spans(yaml.compose(text, Loader=yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError):
        raise _refused("the text", "is not usable YAML", "Correct it") from None


def _spans(node: yaml.Node | None) -> Mapping[str, Span]:
    pairs = node.value if isinstance(node, yaml.MappingNode) and not node.flow_style else ()
    return {
        str(key.value): Span(
            key.start_mark.index, key.start_mark.column, value.start_mark.index, value.end_mark.index,
            isinstance(value, yaml.ScalarNode), _spans(value), _items(value),
        )
        for key, value in pairs
    }  # fmt: skip


def _items(node: yaml.Node) -> tuple[int, ...]:
    is_list = isinstance(node, yaml.SequenceNode) and not node.flow_style
    return tuple(item.start_mark.index for item in node.value) if is_list else ()


def _value(text: str, origin: str) -> object:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader that refuses more)
    except yaml.YAMLError as error:
        raise _refused(origin, f"is not usable YAML: {_where_and_why(error)}", "Correct it there") from None
    except RecursionError:
        raise _refused(origin, "is nested too deeply", f"At most {MAX_DEPTH} levels can be read") from None


def exists(path: Path) -> bool:
    """Whether there is such a file.  Raises ConfigError where this user may not see that."""
    try:
        return path.exists()
    except OSError as error:
        remedy = rights.REMEDY if isinstance(error, PermissionError) else "Choose another state_dir"
        problem = Problem("file", "cannot be read", str(error.strerror or error), remedy)
        raise ConfigError(str(path), (problem,)) from None


def coded(value: Mapping[str, Any]) -> bytes:
    """Plain values as YAML, for `read`."""
    return yaml.safe_dump(dict(value), sort_keys=False, default_flow_style=None, width=110).encode()


def coded_key(key: str, value: Any) -> str:
    """One key and its value as lines of a file."""
    is_section = isinstance(value, dict | list)
    style = None if is_section else False
    return yaml.safe_dump({key: value}, sort_keys=False, default_flow_style=style, width=110, allow_unicode=True)


def place(files: Mapping[Path, bytes]) -> None:
    """Write files of one folder, all or none, the last one after the others; make the folder where it is missing.

    After a power cut each is the old one or the new one. Files that root writes belong to the owner of the folder: the
    daemon has to read them.  Raises OSError.
    """
    inner = next(iter(files)).absolute().parent
    missing = [folder for folder in (inner, *inner.parents) if not folder.exists()]
    owner = next(folder for folder in (inner, *inner.parents) if folder.exists()).stat()
    inner.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in missing if os.geteuid() == 0 else ():
        os.chown(folder, owner.st_uid, owner.st_gid)
    try:
        atomic_files.replace_all(files, mode=atomic_files.SHARED, owner=owner)
    except BaseException:
        for folder in missing:  # the innermost first
            with suppress(OSError):
                folder.rmdir()
        raise


def fill(value: object, *, origin: str, base: Path, env: Mapping[str, str], problems: list[Problem]) -> Any:
    """A copy with ${NAME}, ${NAME:-default}, ${file:PATH} and ${credential:NAME} replaced in every text.

    In a URL, what a reference adds to the login or to the value of a parameter is percent-encoded, so that any
    password can stand there.
    base: what relative paths are relative to.  problems: gets one for each reference that cannot be resolved.
    Raises ConfigError for a value that is nested too deeply or expands to too much.
    """
    return _Filler(origin, base, env, problems).fill(value, "", 0)


def located(where: str, *, base: Path, env: Mapping[str, str]) -> Path:
    """The path that a text names: relative to `base`, or `credential:NAME`.

    Inside the unit a credential is systemd's; in a shell it is the file of that name beside the configuration.
    """
    if not where.startswith(CREDENTIAL):
        return base / where
    return Path(env.get(CREDENTIALS_DIRECTORY) or base) / where.removeprefix(CREDENTIAL)


def _refused(origin: str, allowed: str, remedy: str) -> ConfigError:
    return ConfigError(origin, (Problem("file", origin, allowed, remedy),))


class _Loader(yaml.SafeLoader):
    """YAML without dates, foreign tags, endless numbers, and the silent loss of a repeated key."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own class attribute)
        first: [(tag, form) for tag, form in forms if not tag.endswith(":timestamp")]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(problem="this key is repeated in one section", problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MAX_VALUES:
            raise yaml.MarkedYAMLError(problem="expands to too many keys", problem_mark=node.start_mark)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 (PyYAML's)
        if node.tag not in _PLAIN_TAGS:
            raise yaml.MarkedYAMLError(problem=f"a tag; {_QUOTES}", problem_mark=node.start_mark)
        try:
            value = super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):  # PyYAML lets them through
            problem = "looks like a number, but is not one; a text needs quotes"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            raise yaml.MarkedYAMLError(problem="a number beyond 64 bits", problem_mark=node.start_mark)
        return value


def _where_and_why(error: yaml.YAMLError) -> str:
    """PyYAML's message, without the line of the file that it would show."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return "it contains a character that YAML does not allow"
    problem = str(error.problem)
    if re.match(r"found undefined alias|found duplicate anchor|found unknown|could not determine", problem):
        problem = _QUOTES
    elif problem == "but found another document":
        problem = "a second document starts"
    mark = error.problem_mark or error.context_mark
    where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
    return where + problem


_REFERENCE = re.compile(r"\$\{(?P<what>[^}]*)\}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class _Filler:
    def __init__(self, origin: str, base: Path, env: Mapping[str, str], problems: list[Problem]) -> None:
        self._origin = origin
        self._base = base
        self._env = env
        self._problems = problems
        self._values = 0

    def fill(self, value: Any, key: str, depth: int) -> Any:
        self._values += 1
        if depth > MAX_DEPTH or self._values > MAX_VALUES:
            remedy = f"At most {MAX_DEPTH} levels and {MAX_VALUES} values can be read"
            raise _refused(self._origin, "is nested too deeply or expands to too much", remedy)
        if isinstance(value, dict):
            return {k: self.fill(v, one_line(f"{key}.{k}" if key else str(k)), depth + 1) for k, v in value.items()}
        if isinstance(value, list):
            return [self.fill(v, f"{key}[{i}]", depth + 1) for i, v in enumerate(value)]
        if isinstance(value, str):
            around = _REFERENCE.sub(lambda match: "x" * len(match[0]), value)
            text = _REFERENCE.sub(lambda match: self._replacement(match, key, around), value)
            if not is_valid(text):  # by an escape in the file, or from the environment
                remedy = "Write it without; an environment variable and a file hold UTF-8 text"
                self._problems.append(Problem(key, "(hidden)", "holds a NUL or bytes that are not UTF-8", remedy))
                return ""
            return text
        return value

    def _replacement(self, match: re.Match[str], key: str, around: str) -> str:
        """around: the text with its references blotted out."""
        what = match["what"]
        if what.startswith(("file:", CREDENTIAL)):
            return url.encoded_at(around, match.start(), self._content(match[0], what.removeprefix("file:"), key))
        name, has_default, default = what.partition(":-")
        if not _VARIABLE.fullmatch(name):
            remedy = "Write ${NAME}, ${NAME:-default}, ${file:PATH} or ${credential:NAME}"
            self._problems.append(Problem(key, match[0], "is not a reference", remedy))
            return ""
        if name in self._env:
            held = self._env[name]
            return url.encoded_at(around, match.start(), held) if is_valid(held) else held  # `fill` refuses it
        if not has_default:
            remedy = f"Set {name}, or write ${{{name}:-default}}"
            self._problems.append(Problem(key, match[0], "the environment variable is not set", remedy))
        return default

    def _content(self, reference: str, where: str, key: str) -> str:
        path = located(where, base=self._base, env=self._env)
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_REFERENCED_BYTES + 1)
            if len(raw) > MAX_REFERENCED_BYTES:
                raise ValueError(f"larger than {MAX_REFERENCED_BYTES // 1024} KiB")
            return secret_file.text_of(raw.decode("utf-8"))
        except UnicodeDecodeError:
            reason = "it is not UTF-8 text"
        except FileNotFoundError:
            self._problems.append(
                Problem(key, reference, "the file cannot be read: it is missing", secret_file.remedy_for(path))
            )
            return ""
        except (OSError, ValueError) as error:
            reason = str(error)
        remedy = f"Make {path} readable by this user"
        self._problems.append(Problem(key, reference, f"the file cannot be read: {reason}", remedy))
        return ""
