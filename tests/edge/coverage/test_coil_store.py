"""The coil on the line, kept over restarts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fakes.clock import FakeClock
from fakes.delivery import event
from hypothesis import given
from hypothesis import strategies as st

from edge.coverage.coil_store import MAX_AWAY_S, CoilStore
from edge.coverage.strip_position import RestoredCoil
from edge.event import Event
from edge.host.clock import stamp


class Node:
    """A node that restarts."""

    def __init__(self, folder):
        self.path, self.clock = folder / "coil.json", FakeClock()
        self.coils = self.restart()

    def restart(self):
        self.coils = CoilStore(self.path, self.clock)
        return self.coils

    def record(self, *facts):
        """Record facts of (type, coil), all of them together.  Returns their time."""
        events = [event(kind, "node", detail={"coil": name}) for kind, name in facts]
        self.coils.record([replace(fact, wall_ns=self.clock.wall_ns()) for fact in events])
        return stamp(self.clock.wall_ns())


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


def test_coil_is_known_after_a_restart(node):
    """Its name and its start are kept; after its end none runs; without a coil there is no file."""
    node.record(("image.bad", None))
    assert node.restart().latest is None
    assert not node.path.exists()
    started = node.record(("coil.started", "A"))
    node.clock.advance(60)
    assert node.restart().latest == RestoredCoil("A", started)
    started = node.record(("coil.ended", "A"), ("coil.started", 'Ä "7"'))
    assert node.restart().latest == RestoredCoil('Ä "7"', started)
    ended = node.record(("coil.ended", 'Ä "7"'))
    assert node.restart().latest == RestoredCoil(None, ended)


def test_file_is_written_only_for_a_change(tmp_path):
    """Events that are stored together cause one write, other events none; a failed write is repeated."""
    folder = tmp_path / "late"
    node = Node(folder)
    node.record(("coil.started", "A"))  # the folder does not exist yet
    folder.mkdir()
    node.record(("defect.opened", None))
    assert json.loads(node.path.read_text("utf-8"))["coil"] == "A"
    node.path.unlink()
    for _ in range(3):
        node.record(("defect.opened", None))
    assert not node.path.exists()
    node.record(("coil.ended", "A"), ("coil.started", "B"))
    assert json.loads(node.path.read_text("utf-8"))["coil"] == "B"
    node.path.unlink()
    node.record(("defect.opened", None))
    assert not node.path.exists()


def test_failing_disk_is_logged_once(tmp_path, caplog):
    """The log has one line for several failures in a row."""
    node = Node(tmp_path / "missing")
    for name in ("A", "B", "C"):
        node.record(("coil.started", name))
    assert caplog.text.count("cannot be saved") == 1


def test_coil_is_not_resumed_after_a_long_time_off(node):
    """The previous run was alive when it recorded the coil, or at a later known time."""
    assert not node.coils.may_still_run(None)
    node.record(("coil.started", "A"))
    coils = node.restart()
    node.clock.advance(MAX_AWAY_S - 1)
    assert coils.may_still_run(None)
    alive_ns = node.clock.wall_ns()
    node.clock.advance(MAX_AWAY_S - 1)
    assert not coils.may_still_run(None)
    assert coils.may_still_run(alive_ns)
    node.clock.advance(2)
    assert not coils.may_still_run(alive_ns)


def test_coils_of_lanes_are_kept_too(tmp_path):
    """A node whose lanes alone had coils counts its strip from the start, as before."""
    clock = FakeClock()

    def started(coil, kind="coil.started", **lane):
        return Event.now(clock, "node", kind, {"coil": coil, **lane})

    store = CoilStore(tmp_path / "coil.json", clock)
    store.record([started("A-1", lane="left"), started("A-2", lane="right")])
    found = CoilStore(tmp_path / "coil.json", clock).latest
    assert (found.name, found.was_named, found.lanes) == (None, False, {"left": "A-1", "right": "A-2"})
    store.record([started("A-1", "coil.ended", lane="left"), started("M")])
    found = CoilStore(tmp_path / "coil.json", clock).latest
    assert (found.name, found.was_named, found.lanes) == ("M", True, {"right": "A-2"})


@given(
    st.binary(max_size=64) | st.sampled_from([b"[]", b"{}", b'{"schema": "defectd.coil/1", "coil": 7, "since": "x"}'])
)
def test_damaged_file_leaves_the_coil_unknown(tmp_path_factory, content):
    """It stops nothing; positions do not count from the start of the node, because a coil may be running."""
    folder = tmp_path_factory.mktemp("state")
    (folder / "coil.json").write_bytes(content)
    clock = FakeClock()
    assert CoilStore(folder / "coil.json", clock).latest == RestoredCoil(None, stamp(clock.wall_ns()))


def test_file_with_a_malformed_time_is_damaged(node):
    """The name alone does not show whether the coil may still run."""
    node.path.write_text(json.dumps({"schema": "defectd.coil/1", "coil": "A", "since": "yesterday"}))
    assert node.restart().latest == RestoredCoil(None, stamp(node.clock.wall_ns()))
