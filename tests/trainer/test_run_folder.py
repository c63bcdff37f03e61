"""The run folder: finished stages stay, changed ones run again, nothing is half written."""

from __future__ import annotations

import errno
import json
import resource

import pytest

from edge.host.clock import SystemClock
from trainer.recipe import TrainingError
from trainer.run_folder import RunFolder, write


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run", SystemClock(), command="defectd-train all")


def writing(text, calls=None, name="out.txt"):
    """A stage that writes one file and one folder."""

    def make(draft, _checkpoints):
        if calls is not None:
            calls.append(text)
        write(draft / name, text)
        write(draft / f"{name[:3]}.more" / "deep.txt", text)
        return {"text": text}

    return make


def leftovers(run):
    return [p for p in run.folder.rglob(".*") if p.is_file() and p.name != ".lock"]


def test_a_stage_is_made_once(run):
    """The second time its result is found, with its notes."""
    calls = []
    first = run.stage("one", {"a": 1}, (), writing("x", calls))
    again = run.stage("one", {"a": 1}, (), writing("x", calls))
    assert calls == ["x"]
    assert (first.made_now, again.made_now) == (True, False)
    assert (again.notes, again.outputs) == (first.notes, first.outputs)
    assert set(first.outputs) == {"out.txt", "out.more/deep.txt"}


def test_a_stage_is_made_again_when_its_settings_or_needs_change(run):
    """Other settings or another result of a needed stage count; the same result made again does not."""
    calls = []

    def second(first):
        return run.stage("two", {}, [first], writing("y", calls, "two.txt"))

    first = run.stage("one", {"a": 1}, (), writing("x"))
    second(first)
    second(run.stage("one", {"a": 2}, (), writing("x")))
    assert calls == ["y"]
    second(run.stage("one", {"a": 3}, (), writing("other")))
    assert calls == ["y", "y"]


@pytest.mark.parametrize("damage", ["changed", "removed", "record"])
def test_a_damaged_stage_is_made_again(run, damage):
    """An output was changed or removed, or the record cannot be read."""
    run.stage("one", {}, (), writing("x"))
    if damage == "changed":
        (run.folder / "out.txt").write_text("y")
    elif damage == "removed":
        (run.folder / "out.more" / "deep.txt").unlink()
    else:
        (run.folder / "stages" / "one.json").write_text("{")
    assert run.stage("one", {}, (), writing("x")).made_now
    assert (run.folder / "out.txt").read_text() == "x"
    assert not run.stage("one", {}, (), writing("x")).made_now


@pytest.mark.parametrize("stop", [KeyboardInterrupt, TrainingError, MemoryError])
def test_a_stopped_stage_leaves_the_old_outputs_and_its_checkpoints(run, stop):
    """Whatever stops it: the old outputs are intact, and no draft remains."""
    run.stage("one", {"a": 1}, (), writing("x"))

    def stopped(draft, checkpoints):
        write(draft / "out.txt", "half")
        write(checkpoints / "fit.pt", "epoch 3")
        raise stop

    with pytest.raises(stop):
        run.stage("one", {"a": 2}, (), stopped)
    assert (run.folder / "out.txt").read_text() == "x"
    assert not run.stage("one", {"a": 1}, (), writing("x")).made_now
    assert leftovers(run) == []
    seen = []
    run.stage("one", {"a": 2}, (), lambda draft, kept: seen.append((kept / "fit.pt").read_text()))
    assert seen == ["epoch 3"]
    assert not (run.folder / "checkpoints").exists()


def test_a_full_disk_is_reported_and_harms_nothing(run):
    """The message names the file, the old outputs stay, and with free space the stage succeeds."""
    run.stage("one", {"a": 1}, (), writing("x"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(TrainingError, match="run the same command again: finished stages stay"):
            run.stage("one", {"a": 2}, (), writing("y" * 50_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (run.folder / "out.txt").read_text() == "x"
    assert leftovers(run) == []
    assert run.stage("one", {"a": 2}, (), writing("y" * 50_000)).made_now


def test_an_error_of_the_system_is_reported(run):
    """The message has the path, the system's error and the remedy."""

    def full(_draft, _checkpoints):
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere")

    with pytest.raises(TrainingError, match=r"/somewhere: No space left on device\. Free disk space"):
        run.stage("one", {}, (), full)


def test_two_trainings_do_not_share_a_folder(run):
    """A second one is refused while the first one works; drafts of a killed process are removed."""
    left = run.folder / ".draft" / "one"
    left.mkdir(parents=True)
    with run.lock():
        assert not left.exists()
        with (
            pytest.raises(TrainingError, match="another training works in this folder"),
            RunFolder(run.folder, SystemClock()).lock(),
        ):
            pass
    with run.lock():
        pass


def test_the_record_of_a_stage_states_how_it_was_made(run):
    """It has command, settings, hashes, duration and time of day."""
    run.stage("one", {"a": 1}, (), writing("x"))
    record = json.loads((run.folder / "stages" / "one.json").read_text())
    assert record["command"] == "defectd-train all"
    assert record["settings"] == {"a": 1}
    assert len(record["outputs"]["out.txt"]) == 64
    assert record["seconds"] >= 0
    assert record["made"].endswith("Z")
