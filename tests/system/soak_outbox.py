"""Damages the files of an outbox in every way, opens it again, and counts what is lost without a report.

    python tests/system/soak_outbox.py --cases 2000 --seed 1

The files are those of a process that was killed or stopped, with events that wait, that are delivered, refused, dropped
or deleted. A case damages one file: a bit, a page, a frame or a whole file; or the disk is full, the folder read-only
or a file unreadable while the damage is found; or the process is killed in the middle of the salvage. Then the outbox
must open, as soon as the outside cause is gone, take new events under numbers that were never used, and account for
every old number: stored, or in the range of an events.dropped event.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # `fakes`: pytest finds it by conftest.py, a script does not

from fakes.delivery import draft
from fakes.outbox import open_reporting, sized

from edge.delivery.outbox.reader import read_events
from edge.delivery.outbox.store import Outbox
from edge.errors import OutboxError
from edge.host.clock import boot_id

BOOT = boot_id()
FILES = ("outbox.db", "outbox.db-wal", "outbox.db-shm", "outbox.db.seq", "outbox.db.mark")
CALLS = ("pwrite64", "rename", "fsync", "fdatasync", "unlink", "ftruncate")
"""System calls that change files: a salvage is killed at each of them."""
NOBODY = 65_534
PAGE = 4096
FRAME = PAGE + 24


@dataclass(frozen=True)
class Store:
    """The files of a process that has ended, and what it knew."""

    folder: Path
    states: dict[int, str]
    """By number: waiting, delivered or refused; the others were pruned, or dropped with a report."""
    payloads: dict[int, bytes]
    last_seq: int
    reported: frozenset[int]


@dataclass
class Result:
    """How the cases ended.  faults: what must not happen."""

    cases: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    lost: int = 0
    """Undelivered events that were lost, all of them reported."""
    altered: int = 0
    """Events whose text was changed by a flipped bit that nothing can notice."""
    salvaged: int = 0

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.cases.items()))
        head = (
            f"{self.cases.total()} cases ({kinds}): {self.salvaged} salvages, {self.lost} waiting events lost and"
            f" reported, {self.altered} altered, {len(self.faults)} faults"
        )
        return "\n  ".join([head, *self.faults[:40]])


def opened(folder: Path, **changes: object) -> Outbox:
    return open_reporting(folder, **{"max_rows": 100_000, "keep_delivered": 100, "boot": BOOT, **changes})


def stores(folder: Path) -> list[Store]:
    """One for each kind of history."""
    makers: dict[str, Callable[[Outbox], None]] = {
        "log only": _short,
        "closed": _short,
        "after a checkpoint": _after_checkpoint,
        "many": _many,
        "pruned": _pruned,
        "large": _large,
    }
    made = []
    for name, use in makers.items():
        box = opened(folder / name)
        use(box)
        if name == "closed":
            box.close()
        kept = folder / f"{name} kept"
        shutil.copytree(folder / name, kept)  # what a kill leaves
        rows = read_events(folder / name / "outbox.db", 0, 10**6)
        states = {row.seq: row.state for row in rows}
        payloads = {row.seq: row.payload for row in rows}
        made.append(Store(kept, states, payloads, max(states), frozenset(_ranges(payloads.values()))))
        box.close()
    return made


def _short(box: Outbox) -> None:
    for n in range(40):
        box.append([draft(n)])
    box.ack([1, 2, 3, 5])
    box.refuse(7, 0x87, "not authorised")
    box.append([draft(n) for n in range(5)])


def _after_checkpoint(box: Outbox) -> None:
    _short(box)
    assert box._db is not None
    box._db.execute("PRAGMA wal_checkpoint(RESTART)")
    for n in range(12):
        box.append([draft(n)])
    box.ack([8, 9])


def _many(box: Outbox) -> None:
    for n in range(30):
        box.append([draft(n) for n in range(50 * n, 50 * n + 50)])
    box.ack(range(1, 60))
    for seq in (100, 200, 300):
        box.refuse(seq, 0x99, "no")


def _pruned(box: Outbox) -> None:
    box.append([draft(n) for n in range(900)])
    box.ack(range(1, 801))
    assert box._db is not None
    box._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    box.append([draft(n) for n in range(20)])


def _large(box: Outbox) -> None:
    for n in range(12):
        box.append([sized(n, 9000 + 700 * n, "alarm"), draft(n)])
    box.ack([1, 2])


def _ranges(payloads) -> Iterator[int]:
    for payload in payloads:
        if b"events.dropped" in payload:
            try:
                detail = json.loads(payload)["detail"]
                first, last = detail["first_seq"], detail["last_seq"]
            except (ValueError, KeyError):  # a bit of the row itself was flipped
                continue
            yield from range(first, last + 1)


# ---- faults ----------------------------------------------------------------------------------------


def damages(store: Store, rng: random.Random) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Ways to damage a copy of the store, without end: kind, and what does it to the folder."""
    sizes = {name: (store.folder / name).stat().st_size for name in FILES if (store.folder / name).exists()}
    while True:
        name = rng.choice([*sizes, "outbox.db", "outbox.db-wal"])
        if name not in sizes:
            continue
        size = sizes[name]
        unit = FRAME if name.endswith("-wal") else PAGE
        at = rng.randrange(max(1, size))
        start = max(0, 32 + (at - 32) // unit * unit) if unit == FRAME else at // unit * unit
        kind = rng.choice(
            ["flip", "flip", "flip", "header", "zeros", "noise", "cut", "missing", "empty", "fifo", "folder"]
        )
        if kind == "header":
            at = rng.randrange(min(size, 100)) if name == "outbox.db" else min(size - 1, start + rng.randrange(24))
        bit = rng.randrange(8)
        length = min(unit, size - start)
        noise = rng.randbytes(length)
        actions: dict[str, Callable[[Path], None]] = {
            "flip": lambda path, at=at, bit=bit: _write(path, at, bytes([_byte(path, at) ^ 1 << bit])),
            "header": lambda path, at=at, bit=bit: _write(path, at, bytes([_byte(path, at) ^ 1 << bit])),
            "zeros": lambda path, start=start, length=length: _write(path, start, bytes(length)),
            "noise": lambda path, start=start, noise=noise: _write(path, start, noise),
            "cut": lambda path, at=at, start=start, rng=rng: os.truncate(path, rng.choice([at, start])),
            "missing": lambda path: path.unlink(),
            "empty": lambda path: os.truncate(path, 0),
            "fifo": lambda path: (path.unlink(), os.mkfifo(path)),
            "folder": lambda path: (path.unlink(), path.mkdir()),
        }
        if size == 0 and kind in ("flip", "header"):
            continue
        yield f"{kind} {name}", lambda folder, do=actions[kind], name=name: do(folder / name)


def _byte(path: Path, at: int) -> int:
    with path.open("rb") as file:
        file.seek(at)
        return file.read(1)[0]


def _write(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


# ---- one case --------------------------------------------------------------------------------------


def check(folder: Path, store: Store, result: Result, label: str) -> None:
    """Use the outbox as a node does, then compare it with what the store held."""
    try:
        box = opened(folder)
    except OutboxError as error:
        result.faults.append(f"{label}: does not open: {error}")
        return
    used: list[int] = []
    with contextlib.closing(box):
        if not _is_usable(box, used):
            result.faults.append(f"{label}: stays closed")
            return
        used += box.append([draft(2)])
    rows = {row.seq: row for row in read_events(folder / "outbox.db", 0, 10**6)}
    reported = store.reported | set(_ranges(row.payload for row in rows.values()))
    result.salvaged += any(path.name.startswith("outbox.db.damaged") for path in folder.iterdir())
    if len(set(used)) != len(used) or min(used) <= store.last_seq:
        result.faults.append(f"{label}: a number repeats: {used} after {store.last_seq}")
    holes = set(range(store.last_seq + 1, max(rows) + 1)) - set(rows) - reported
    if holes:
        result.faults.append(f"{label}: a jump is not reported: {sorted(holes)[:5]}")
    for seq, state in store.states.items():
        row = rows.get(seq)
        if row is not None and row.payload != store.payloads[seq] and seq not in used:
            result.altered += 1
        is_kept = row is not None and (state in (row.state, "delivered") or row.state == "waiting")
        if not is_kept and state == "waiting":
            result.lost += 1
        if not is_kept and state != "delivered" and seq not in reported:
            found = "gone" if row is None else row.state
            result.faults.append(f"{label}: {seq} was {state}, is {found}, and no event reports it")


def _is_usable(box: Outbox, used: list[int]) -> bool:
    """Append and read; the first calls may find damage."""
    for _ in range(4):
        with contextlib.suppress(OutboxError):
            for _ in range(3):
                used += box.append([draft(1)])
            box.peek(0, 10**6)
            return True
    return False


def damaged(store: Store, where: Path, damage: Callable[[Path], None]) -> Path:
    folder = where / "case"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(store.folder, folder)
    damage(folder)
    return folder


def hindered(folder: Path, hindrance: str, rng: random.Random) -> str:
    """Open the outbox in a child that cannot do what it must; returns what went wrong, or ""."""
    for path in (folder, *folder.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    blocked = folder / rng.choice([path.name for path in folder.iterdir()])
    mode = blocked.stat().st_mode & 0o7777
    limit = rng.choice([0, 400, 5000, 30_000, 60_000]) if hindrance == "full disk" else resource.RLIM_INFINITY
    if hindrance == "read-only folder":
        folder.chmod(0o500)
    elif hindrance == "unreadable file":
        blocked.chmod(0)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = _use_hindered(folder, limit)
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    folder.chmod(0o700)
    if blocked.exists():
        blocked.chmod(mode)
    return {0: "", 2: "the store stays closed"}.get(code, "an exception left the outbox")


def _use_hindered(folder: Path, limit: int) -> int:
    """Append as a user who may not, with files limited to that size; then, without the limit, the store must work."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    box = None
    for _ in range(4):
        with contextlib.suppress(OutboxError):
            box = box or opened(folder)
            box.append([draft(3)])
            box.peek(0, 100)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    if box is None or limit == resource.RLIM_INFINITY:
        return 0
    for _ in range(4):
        with contextlib.suppress(OutboxError):
            box.append([draft(4)])
            return 0
    return 2


def killed_at_every_call(store: Store, where: Path, label: str, damage, result: Result, limit: int) -> None:
    """Kill the salvage at each system call that changes a file; strace does it."""
    script = (
        "import sys; from pathlib import Path; from soak_outbox import opened; opened(Path(sys.argv[1])).append([])"
    )
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[2]}"}
    for call in CALLS:
        for number in range(1, limit):
            folder = damaged(store, where, damage)
            inject = f"inject={call}:signal=SIGKILL:when={number}"
            command = ["strace", "-f", "-o", "/dev/null", "-e", inject, sys.executable, "-B", "-c", script, str(folder)]
            ended = subprocess.run(command, env=environment, capture_output=True, check=False).returncode
            result.cases["killed"] += 1
            check(folder, store, result, f"{label}, killed at {call} {number}")
            if ended == 0:
                break


def run(where: Path, cases: int, seed: int, *, with_kills: bool) -> Result:
    rng = random.Random(seed)
    result = Result()
    all_stores = stores(where)
    ways = [damages(store, rng) for store in all_stores]
    for number in range(cases):
        index = rng.randrange(len(all_stores))
        store = all_stores[index]
        kind, damage = next(ways[index])
        folder = damaged(store, where, damage)
        label = f"case {number}, {store.folder.name}: {kind}"
        hindrance = rng.choice(["full disk", "read-only folder", "unreadable file"]) if number % 8 == 0 else ""
        if hindrance and os.geteuid() == 0:
            kind = hindrance
            trouble = hindered(folder, hindrance, rng)
            if trouble:
                result.faults.append(f"{label}, {hindrance}: {trouble}")
        result.cases[kind] += 1
        check(folder, store, result, label + (f", {hindrance}" if hindrance else ""))
    if with_kills:
        noise = bytes(random.Random(seed).randbytes(PAGE))
        for store in (all_stores[0], all_stores[3]):
            killed_at_every_call(
                store,
                where,
                f"{store.folder.name}: frame",
                lambda f: _write(f / "outbox.db-wal", 5000, b"!!"),
                result,
                400,
            )
        killed_at_every_call(
            all_stores[1], where, "closed: page", lambda f: _write(f / "outbox.db", 2 * PAGE, noise), result, 400
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-kills", action="store_true", help="leave out the kills, which need strace")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder), chosen.cases, chosen.seed, with_kills=not chosen.no_kills)
    print(result)  # noqa: T201 (a script)
    raise SystemExit(bool(result.faults))


if __name__ == "__main__":
    main()
