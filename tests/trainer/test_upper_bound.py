"""The user's upper bound, with a small network in place of a pretrained one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import textures
import torch
from torch import nn

from edge.host.clock import SystemClock
from trainer import plan
from trainer.evaluation import outcomes
from trainer.job import Task
from trainer.networks import backbones
from trainer.networks.backbones import FEATURES, Backbone, Start
from trainer.pipeline import new_job
from trainer.run_folder import RunFolder
from trainer.stages import upper_bound


def small():
    """Random edges, their strength in each quarter of a tile as features."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 80, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Conv2d(80, FEATURES, 1))


STAND_IN = Backbone("stand_in", "Stand-In", small, 64, (0.5,) * 3, (0.25,) * 3)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Cloth, indexed."""
    folder = tmp_path_factory.mktemp("cloth")
    textures.write(folder, 12)
    wanted = replace(plan.load("scratch"), folds=plan.Folds(2, "twins"))
    made = new_job(Task(folder, wanted), RunFolder(tmp_path_factory.mktemp("run"), SystemClock()))
    made.make("data")
    return made


@pytest.fixture
def installed(monkeypatch):
    """The weights of the stand-in are on this machine."""
    monkeypatch.setattr(backbones, "on_this_machine", lambda: STAND_IN)
    monkeypatch.setattr(backbones, "imagenet", lambda backbone: Start(backbone, "Stand-In, drawn", small()))


def test_bound_is_measured_where_the_student_is_measured(job, installed, tmp_path):
    """valid, test, and every picture once in the folds; a linear layer learns the cloth."""
    notes = upper_bound.measure_upper_bound(job, {}).make(tmp_path, tmp_path)
    found = {one.split: one for one in outcomes.load_all(tmp_path / upper_bound.FOLDER)}
    assert notes["origin"] == "Stand-In, drawn"
    assert set(found) == {"valid", "test", "2 folds by twins"}
    assert {one.variant for one in found.values()} == {"frozen Stand-In"}
    defects = [p for p in job.index.pictures if p.label < len(job.index.classes)]
    folds = found["2 folds by twins"]
    assert sorted(folds.pictures) == sorted(map(outcomes.picture_key, defects))
    assert int(folds.right().sum()) == sum(notes["right_of"][f"2 folds by twins {n}"][0] for n in (1, 2))
    assert folds.right().mean() > 0.6  # by chance a third


def test_without_weights_the_notes_say_so(job, monkeypatch, tmp_path):
    """Nothing is measured; the key changes when weights are installed, so that the stage runs again."""
    monkeypatch.setattr(backbones, "on_this_machine", lambda: None)
    without = upper_bound.measure_upper_bound(job, {})
    assert without.make(tmp_path, tmp_path) == {"origin": None}
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(backbones, "on_this_machine", lambda: STAND_IN)
    assert upper_bound.measure_upper_bound(job, {}).settings != without.settings
    assert "pip install 'defectd[teacher]'" in upper_bound.NOT_MEASURED
