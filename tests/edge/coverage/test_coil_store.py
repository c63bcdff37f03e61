"""The coil on the line, kept over restarts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fakes import FakeClock
from fakes.delivery import event
from hypothesis import given
from hypothesis import strategies as st

from edge.coverage.coil_store import LONGEST_AWAY_S, CoilStore
from edge.coverage.strip_position import RestoredCoil
from edge.host import atomic_files
from edge.host.clock import stamp


class Box:
    """A node that comes and goes."""

    def __init__(self, folder):
        self.path, self.clock = folder / "coil.json", FakeClock()
        self.coils = self.restart()

    def restart(self):
        self.coils = CoilStore(self.path, self.clock)
        return self.coils

    def tell(self, *facts):
        """Facts of (type, coil), all of them stored together."""
        told = [event(kind, "node", detail={"coil": name}) for kind, name in facts]
        self.coils.heed([replace(fact, wall_ns=self.clock.wall_ns()) for fact in told])
        return stamp(self.clock.wall_ns())


@pytest.fixture
def box(tmp_path):
    return Box(tmp_path)


def test_coil_is_known_after_a_restart(box):
    """Its name, and since when; a coil that ended is none; without a coil there is no file."""
    box.tell(("image.bad", None))
    assert box.restart().kept is None
    assert not box.path.exists()
    begun = box.tell(("coil.started", "A"))
    box.clock.advance(60)
    assert box.restart().kept == RestoredCoil("A", begun)
    begun = box.tell(("coil.ended", "A"), ("coil.started", 'Ä "7"'))
    assert box.restart().kept == RestoredCoil('Ä "7"', begun)
    ended = box.tell(("coil.ended", 'Ä "7"'))
    assert box.restart().kept == RestoredCoil(None, ended)


def test_file_is_written_at_changes_only(box, monkeypatch):
    """Once for what is stored together, not at all for other events; what the disk refused is tried again."""
    written, is_full = [], True

    def write(path, content):
        if is_full:
            raise OSError(28, "No space left on device")
        written.append(json.loads(content)["coil"])

    monkeypatch.setattr(atomic_files, "replace", write)
    box.tell(("coil.started", "A"))
    is_full = False
    for _ in range(3):
        box.tell(("defect.opened", None))
    assert written == ["A"]
    box.tell(("coil.ended", "A"), ("coil.started", "B"))
    box.tell(("defect.opened", None))
    assert written == ["A", "B"]


def test_coil_is_not_taken_up_again_when_the_node_was_off_for_long(box):
    """The run before is known to have lived until it named the coil, or later."""
    assert not box.coils.may_be_there(None)
    box.tell(("coil.started", "A"))
    coils = box.restart()
    box.clock.advance(LONGEST_AWAY_S - 1)
    assert coils.may_be_there(None)
    alive_ns = box.clock.wall_ns()
    box.clock.advance(LONGEST_AWAY_S - 1)
    assert not coils.may_be_there(None)
    assert coils.may_be_there(alive_ns)
    box.clock.advance(2)
    assert not coils.may_be_there(alive_ns)


@given(
    st.binary(max_size=64) | st.sampled_from([b"[]", b"{}", b'{"schema": "defectd.coil/1", "coil": 7, "since": "x"}'])
)
def test_file_that_is_damaged_leaves_the_coil_unknown(tmp_path_factory, content):
    """It stops nothing, and positions do not count from the start as if there had been no coil."""
    folder = tmp_path_factory.mktemp("box")
    (folder / "coil.json").write_bytes(content)
    clock = FakeClock()
    assert CoilStore(folder / "coil.json", clock).kept == RestoredCoil(None, stamp(clock.wall_ns()))


def test_file_whose_moment_is_no_moment_is_damaged(box):
    """A name alone does not say whether the coil may still be there."""
    box.path.write_text(json.dumps({"schema": "defectd.coil/1", "coil": "A", "since": "yesterday"}))
    assert box.restart().kept == RestoredCoil(None, stamp(box.clock.wall_ns()))
