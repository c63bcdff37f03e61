"""One file with all that a support engineer needs to see why a node misbehaves, and without secrets.

Three measures keep secrets out: the configuration is copied without them, no file that holds one is read into the
archive, and every value that the configuration marks as secret is replaced in every text, wherever it comes from.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import platform
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from edge import __version__, config
from edge.config import secret_file, yaml_file
from edge.delivery.outbox.reader import read_dead_letters, read_statistics
from edge.errors import ConfigError, DefectdError
from edge.host import url
from edge.host.child_environment import child_environment
from edge.host.clock import NS_PER_S, Clock, stamp
from edge.host.redact import MASK, mask_of, redact
from edge.monitoring import doctor
from edge.monitoring.doctor.machine import UNIT, directives, drop_ins, installed_unit
from edge.monitoring.health_check import fetch

MAX_PART_BYTES: Final = 4 << 20
MAX_BYTES: Final = 16 << 20
"""All parts together, before compression."""
MAX_FILES: Final = 1000
LOG_LINES: Final = 20_000
DEAD_LETTERS: Final = 20
JOURNAL_S: Final = 20.0

_SECRET_KEY: Final = re.compile("pass|pwd|secret|token|auth|credential", re.IGNORECASE)
_PRIVATE_KEY: Final = re.compile("-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL)
_REFERENCE: Final = re.compile(r"\$\{(?P<file>file:|credential:)?(?P<name>[^}]*?)(?P<default>:-[^}]*)?\}")
_SECRET_DIRECTIVE: Final = re.compile("^(Environment|SetCredential[A-Za-z]*)=.*", re.IGNORECASE)
_NAMED_SECRET: Final = re.compile(
    r"""(?P<name>(?:pass(?:word|wd)?|pwd|secret|token|api_?key)["']?\s*[:=]\s*["']?)(?!null\b)[^\s"',}]+""",
    re.IGNORECASE,
)

Part = tuple[str, Callable[[], bytes]]


def pack(
    path: Path,
    config_path: Path,
    clock: Clock,
    logs: Sequence[Path] = (),
    *,
    max_bytes: int = MAX_BYTES,
    max_part_bytes: int = MAX_PART_BYTES,
) -> dict[str, str]:
    """Write the archive, readable by its owner only.  logs: files whose last part goes in, too.

    Returns for each part "", or why it is missing or cut.  Raises OSError if the archive cannot be written; an existing
    file is never overwritten.
    """
    raw, settings, refusal = _read(config_path)
    mask = Masker(secrets_of(raw, config_path.resolve().parent, os.environ))
    outcome: dict[str, str] = {}
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    at_s = clock.wall_ns() // NS_PER_S
    with (
        os.fdopen(handle, "wb") as file,
        gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=at_s) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as archive,
    ):
        left = max_bytes
        for name, collect in _parts(raw, settings, refusal, clock, logs):
            outcome[name], content = _collected(collect, mask, min(left, max_part_bytes))
            if content:
                _add(archive, f"{path.name.split('.')[0]}/{name}", content, at_s)
                left -= len(content)
        contents = json.dumps({"made": stamp(clock.wall_ns()), "parts": outcome}, indent=1).encode()
        _add(archive, f"{path.name.split('.')[0]}/contents.json", contents, at_s)
    return outcome


def _read(path: Path) -> tuple[Any, config.Config | None, str]:
    """The values in the file, and the settings; or why there are none."""
    try:
        raw = yaml_file.read(path)
    except ConfigError as error:
        return None, None, str(error)
    try:
        return raw, config.load(path), ""
    except ConfigError as error:
        return raw, None, str(error)


def _parts(
    raw: Any, settings: config.Config | None, refusal: str, clock: Clock, logs: Sequence[Path]
) -> Iterator[Part]:
    """The parts, the most useful first: when the archive is full, the rest is left out."""
    yield "versions.json", lambda: _json(versions())
    # Instead of a refused configuration only the reason goes in: the value of an unknown key may be a password.
    yield "config.json", lambda: _json(without_secrets(raw)) if settings else refusal.encode()
    if settings is not None:
        state = settings.state_dir
        yield "doctor.json", lambda: _json([asdict(f) for f in doctor.examine(settings, clock, open_cameras=False)])
        yield "outbox.json", lambda: _outbox(settings.state.outbox)
        yield "metrics.txt", lambda: fetch(settings.metrics, "/metrics")
        for path in (settings.state.coverage_totals, settings.state.overrides):
            yield f"state/{path.name}", lambda path=path: _tail(path)  # type: ignore[misc]
        yield "state/files.json", lambda: _json(list(_files(state)))
    yield "unit.txt", _unit
    for name in ("meminfo", "loadavg", "uptime"):
        yield f"proc/{name}", lambda name=name: _tail(Path("/proc") / name)  # type: ignore[misc]
    for n, path in enumerate(logs):
        yield f"logs/{n}-{path.name}", lambda path=path: _tail(path)  # type: ignore[misc]
    yield "logs/journal.txt", _journal


def _collected(collect: Callable[[], bytes], mask: Masker, max_bytes: int) -> tuple[str, bytes]:
    """Why the part is missing or cut, or ""; and its content."""
    try:
        content = mask(collect().decode("utf-8", "replace")).encode()
    except (OSError, ValueError, DefectdError, subprocess.SubprocessError) as error:
        return mask(f"missing: {error}"), b""
    if len(content) <= max_bytes:
        return "", content
    return f"cut: its last {max_bytes} of {len(content)} bytes", content[len(content) - max_bytes :]


def _add(archive: tarfile.TarFile, name: str, content: bytes, at_s: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(content), at_s, 0o600
    archive.addfile(entry, io.BytesIO(content))


# ---- secrets -------------------------------------------------------------------------------------


class Masker:
    """Replaces known secrets, credentials in URLs and private keys in a text."""

    def __init__(self, secrets: set[str]) -> None:
        self._known = mask_of(secrets)

    def __call__(self, text: str) -> str:
        text = self._known(_PRIVATE_KEY.sub(MASK, text))
        text = _NAMED_SECRET.sub(rf"\g<name>{MASK}", text)
        # Word by word: it may replace too much, but never beyond the next quote.
        return re.sub(r'[^\s"\']+', lambda word: redact(word[0]), text) if "://" in text else text


def secrets_of(raw: Any, base: Path, env: Mapping[str, str], key: str = "") -> set[str]:
    """Every text that the configuration uses as a secret, as it is and as it stands in a URL."""
    if isinstance(raw, dict):
        return set().union(*(secrets_of(value, base, env, str(name)) for name, value in raw.items()))
    if isinstance(raw, list):
        return set().union(*(secrets_of(value, base, env, key) for value in raw))
    text = str(raw)
    around = _REFERENCE.sub(lambda match: "x" * len(match[0]), text)
    found = set[str]()

    def referenced(match: re.Match[str]) -> str:
        where = match["file"] or ""
        if not where and match["name"] not in env:
            return (match["default"] or "").removeprefix(":-")
        content = env.get(match["name"], "")
        if where:
            content = _content(yaml_file.located(where.removeprefix("file:") + match["name"], base=base, env=env))
            found.update((content, *content.splitlines()))
        return url.encoded_at(around, match.start(), content)

    filled = _REFERENCE.sub(referenced, text)
    if _SECRET_KEY.search(key):
        content = _content(yaml_file.located(filled, base=base, env=env)) if key.endswith("_file") else filled
        found.update((content, *content.splitlines()))
    return found | url.secrets_of(filled)


def _content(path: Path) -> str:
    """The secret in a file; "" where it cannot be read."""
    try:
        with path.expanduser().open("rb") as file:
            return secret_file.text_of(file.read(yaml_file.MAX_REFERENCED_BYTES).decode("utf-8", "replace"))
    except (OSError, ValueError, RuntimeError):
        return ""


def without_secrets(raw: Any, key: str = "") -> Any:
    """A copy of an accepted configuration, as written in its file, without possible secrets."""
    if isinstance(raw, dict):
        return {name: without_secrets(value, str(name)) for name, value in raw.items()}
    if isinstance(raw, list):
        return [without_secrets(value, key) for value in raw]
    if _SECRET_KEY.search(key) and not key.endswith("_file"):
        return MASK if raw is not None else None
    if not isinstance(raw, str):
        return raw
    references: list[str] = []

    def blotted(match: re.Match[str]) -> str:
        default = f":-{MASK}" if match["default"] else ""
        references.append(f"${{{match['file'] or ''}{match['name']}{default}}}")
        return f"reference-{len(references) - 1}-"

    # A path in a reference would look like the path of the URL.
    text = _REFERENCE.sub(blotted, raw)
    text = url.public_url(text) if "://" in text and not text.startswith("file://") else text
    return re.sub(r"reference-(\d+)-", lambda match: references[int(match[1])], text)


# ---- parts ---------------------------------------------------------------------------------------


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, default=str).encode()


def versions() -> dict[str, Any]:
    """Of defectd, its dependencies and the operating system; and the machine."""
    packages = {}
    for line in metadata.requires("defectd") or ():
        name = re.split(r"[\s<>=!~;\[]", line, maxsplit=1)[0]
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # a dependency of an extra that is not installed
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        system = ""
    return {
        "defectd": __version__,
        "python": sys.version,
        "packages": packages,
        "system": system,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
    }


def _outbox(path: Path) -> bytes:
    statistics = read_statistics(path)
    letters = [(e.seq, e.topic, f"0x{e.code:02x}", e.reason) for e in read_dead_letters(path, DEAD_LETTERS)]
    return _json({"statistics": None if statistics is None else asdict(statistics), "dead_letters": letters})


def _tail(path: Path) -> bytes:
    """The last part of a file; also of a file in /proc, which has no size."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - MAX_PART_BYTES))
        return file.read(MAX_PART_BYTES)


def _files(folder: Path) -> Iterator[tuple[str, int, str]]:
    """Names, sizes and times of the files that the node stores, not their content."""
    for n, path in enumerate(sorted(folder.rglob("*"))):
        if n >= MAX_FILES:
            return
        status = path.lstat()
        yield str(path.relative_to(folder)), status.st_size, stamp(status.st_mtime_ns)


def _unit(root: Path = Path("/")) -> bytes:
    path = installed_unit(root)
    if path is None:
        raise ValueError("no unit is installed")
    lines = [line for file in (path, *drop_ins(root)) for line in (f"# {file}", *directives(file))]
    return "\n".join(_SECRET_DIRECTIVE.sub(rf"\1={MASK}", line) for line in lines).encode()


def _journal() -> bytes:
    command = ["journalctl", f"--unit={UNIT}", f"--lines={LOG_LINES}", "--no-pager", "--output=short-iso-precise"]
    done = subprocess.run(command, capture_output=True, timeout=JOURNAL_S, check=False, env=child_environment())  # noqa: S603
    if done.returncode:
        raise ValueError(done.stderr.decode("utf-8", "replace").strip() or "journalctl failed")
    return done.stdout
