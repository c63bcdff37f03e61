"""Thresholds that commands set, over restarts."""

from __future__ import annotations

import json

import pytest
from pydantic import SecretStr

from edge import config
from edge.config import overrides

CLASSES = ("scratches", "crazing")


@pytest.fixture
def configured(tmp_path):
    camera = config.Camera(name="top", source=SecretStr("strip:"), decision=config.Decision(confidence=0.7))
    return config.Config(node="line3", state_dir=tmp_path, cameras=(camera,))


def test_changes_survive_a_restart_and_alter_the_hash(configured):
    """Values that were set apply again, key by key; the other keys stay as configured."""
    changes = overrides.merged({}, "top", {"confidence": 0.8, "classes": {"scratches": 0.9}})
    overrides.save(configured.state_dir, changes)
    assert overrides.load(configured, {camera.name: CLASSES for camera in configured.cameras}) == changes
    settings = overrides.adjusted(configured, changes)
    decision = settings.cameras[0].decision
    assert (decision.confidence, decision.unsure, decision.classes) == (0.8, 0.35, {"scratches": 0.9})
    assert settings.sha256 != configured.sha256
    assert configured.cameras[0].decision.confidence == 0.7


def test_null_goes_back_to_the_configuration(configured):
    """Without any change left, the settings are the configured ones."""
    changes = overrides.merged({}, "top", {"confidence": 0.8, "unsure": 0.1})
    changes = overrides.merged(changes, "top", {"confidence": None})
    assert changes == {"top": {"unsure": 0.1}}
    assert overrides.merged(changes, "top", {"unsure": None}) == {}
    assert overrides.adjusted(configured, {}).sha256 == configured.sha256


@pytest.mark.parametrize(
    "wrong", [{"confidence": 0.2}, {"unsure": 0.9}, {"classes": {"scratches": 0.1}}, {"confidence": 7}]
)
def test_thresholds_that_contradict_each_other_are_refused(configured, wrong):
    """The rules of the file apply."""
    with pytest.raises(ValueError, match=r"confidence|unsure|classes|less than"):
        overrides.adjusted(configured, {"top": wrong})


@pytest.mark.parametrize(
    "kept",
    [
        "nonsense",
        "[]",
        "{}",
        '{"cameras": 7}',
        '{"cameras": {"gone": {"confidence": 0.8}}}',
        '{"cameras": {"top": {"confidence": 0.1}}}',
        '{"cameras": {"top": {"classes": {"rust": 0.9}}}}',
        '{"cameras": {"top": {"confidence": "x"}}}',
    ],
)
def test_changes_that_no_longer_fit_are_left_out_and_logged(configured, kept, caplog):
    """A damaged file, a camera or class that is gone: the configuration applies, and the log reports it."""
    (configured.state_dir / "thresholds.json").write_text(kept)
    assert overrides.load(configured, {camera.name: CLASSES for camera in configured.cameras}) == {}
    assert caplog.records


def test_file_is_private_and_plain(configured):
    """Mode 0600, JSON by camera."""
    overrides.save(configured.state_dir, {"top": {"confidence": 0.8}})
    path = configured.state_dir / "thresholds.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text()) == {"cameras": {"top": {"confidence": 0.8}}}
    assert [p.name for p in configured.state_dir.iterdir()] == ["thresholds.json"]
