"""A change of a calibration: shown first, then written as it was shown, and taken back."""

import hashlib
import json

import pytest

from edge.config import calibration, calibration_change
from edge.config.calibration_change import Change
from edge.config.camera_calibration import Made
from edge.config.state_dir import StateDir
from edge.errors import CalibrationError, ConfigError

MADE = Made(time="now", version="1", source="by hand", frames=1, frame_px=(800, 400))


def region(x):
    return calibration.RegionPart(roi=(x, 0, 200, 200), made=MADE)


def light(name):
    return calibration.FlatfieldPart(file=name, before=0.3, after=0.1, made=MADE)


@pytest.fixture
def state(tmp_path):
    return StateDir(tmp_path / "var")


def change(state, *, beside=None, objections=(), **parts):
    path = state.calibration("top")
    after = calibration.load(path).model_copy(update=parts).coded()
    return Change("roi", "top", path, calibration_change.digest(path), after, beside or {}, objections)


def left(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()} if folder.exists() else {}


def test_stored_change_is_written_byte_by_byte(state, tmp_path):
    """What a person looked at is what the daemon gets, with the picture beside it."""
    calibration_change.store(change(state, roi=region(7), beside={"top.roi.png": b"picture"}), tmp_path / "look")
    assert not state.path.exists()
    loaded = calibration_change.load(tmp_path / "look", state)
    done = calibration_change.apply(loaded)
    written = left(state.path / "calibration")
    assert written["top.yaml"] == loaded.after
    assert written["top.roi.png"] == b"picture"
    assert done == {
        "name": "top.yaml",
        "before_sha256": None,
        "after_sha256": hashlib.sha256(written["top.yaml"]).hexdigest(),
    }


def test_change_of_a_file_that_somebody_changed_meanwhile_is_refused(state):
    """Two people: the second one sees what is there now, before anything of the first is lost."""
    mine, theirs = change(state, roi=region(1)), change(state, roi=region(2))
    calibration_change.apply(theirs)
    with pytest.raises(CalibrationError, match="has changed since"):
        calibration_change.apply(mine)
    assert calibration.load(state.calibration("top")).roi == region(2)


def test_undo_goes_one_step_back_and_forward_again_with_its_data_files(state):
    """Data files of the two last calibrations stay, older ones go; before the first one there was none."""
    path = state.calibration("top")
    for name in "abc":
        calibration_change.apply(change(state, flatfield=light(f"{name}.png"), beside={f"{name}.png": b"map"}))
    assert set(left(path.parent)) == {"top.yaml", "top.yaml~", "b.png", "c.png"}
    calibration_change.undo(path, path.with_name("node.yaml"))
    assert calibration.load(path).flatfield.file == "b.png"
    done = calibration_change.undo(path, path.with_name("node.yaml"))
    assert calibration.load(path).flatfield.file == "c.png"
    assert done["after_sha256"] == calibration_change.digest(path)
    assert set(left(path.parent)) == {"top.yaml", "top.yaml~", "b.png", "c.png"}


def test_undo_of_the_first_calibration_leaves_none_in_use(state):
    """A first region that was wrong can be taken back, too."""
    path = state.calibration("top")
    with pytest.raises(CalibrationError, match="no earlier calibration"):
        calibration_change.undo(path, path.with_name("node.yaml"))
    calibration_change.apply(change(state, roi=region(1)))
    calibration_change.undo(path, path.with_name("node.yaml"))
    assert calibration.load(path).roi is None


@pytest.mark.parametrize("had_tuning", [False, True])
def test_a_change_with_the_tuning_of_the_machine_is_taken_back_as_a_whole(state, had_tuning, monkeypatch):
    """Both files or neither; without an earlier tuning there is none again."""
    monkeypatch.setattr(calibration_change.tuning, "parsed", lambda _path, content: content)
    path, tuned = state.calibration("top"), state.tuning
    if had_tuning:
        tuned.parent.mkdir(parents=True)
        tuned.write_bytes(b"old: 1\n")
    mine = change(state, roi=region(1))
    own = calibration_change.Change("latency", "top", tuned, calibration_change.digest(tuned), b"new: 1\n", {})
    calibration_change.apply_with_tuning(mine, own)
    assert tuned.read_bytes() == b"new: 1\n"
    calibration_change.undo(path, tuned)
    assert calibration.load(path).roi is None
    assert (tuned.read_bytes() if tuned.exists() else None) == (b"old: 1\n" if had_tuning else None)
    calibration_change.undo(path, tuned)
    assert calibration.load(path).roi == region(1)
    assert tuned.read_bytes() == b"new: 1\n"


def test_a_later_change_takes_the_tuning_out_of_the_undo(state, monkeypatch):
    """Undo goes back by one change of the camera; the machine keeps what was measured before it."""
    monkeypatch.setattr(calibration_change.tuning, "parsed", lambda _path, content: content)
    own = calibration_change.Change("latency", "top", state.tuning, None, b"new: 1\n", {})
    calibration_change.apply_with_tuning(change(state, roi=region(1)), own)
    calibration_change.apply(change(state, roi=region(2)))
    calibration_change.undo(state.calibration("top"), state.tuning)
    assert state.tuning.read_bytes() == b"new: 1\n"


def test_objections_need_a_person_who_has_looked(state, tmp_path):
    """They are kept with the change, and nothing is written without the word."""
    calibration_change.store(change(state, roi=region(1), objections=("it is blind",)), tmp_path / "look")
    loaded = calibration_change.load(tmp_path / "look", state)
    with pytest.raises(CalibrationError, match="it is blind"):
        calibration_change.apply(loaded)
    assert not state.path.exists()
    calibration_change.apply(loaded, has_looked=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "top.yaml").write_bytes(b"schema: x"),
        lambda folder: (folder / "top.roi.png").unlink(),
        lambda folder: (folder / "change.json").write_text("{"),
        lambda folder: (folder / "change.json").unlink(),
        lambda folder: rewritten(folder, beside={"../outside.png": "0"}),
        lambda folder: rewritten(folder, camera="../top"),
        lambda folder: rewritten(folder, kind="anything"),
    ],
)
def test_folder_that_is_not_what_the_dry_run_wrote_is_refused(state, tmp_path, damage):
    """Also names that lead out of the folder; nothing is written."""
    folder = tmp_path / "look"
    calibration_change.store(change(state, roi=region(7), beside={"top.roi.png": b"picture"}), folder)
    damage(folder)
    with pytest.raises(CalibrationError, match=r"dry run|--dry-run"):
        calibration_change.load(folder, state)
    assert not state.path.exists()


def test_content_that_is_no_calibration_is_refused(state):
    """A file that the daemon would refuse at its start is never written."""
    wrong = Change("roi", "top", state.calibration("top"), None, b"schema: defectd.calibration/1\nroi: 3\n", {})
    with pytest.raises(ConfigError):
        calibration_change.apply(wrong)
    assert not state.path.exists()


def rewritten(folder, **fields):
    path = folder / "change.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
