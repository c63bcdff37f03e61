"""What a run measures besides accuracy: defect-free surface, unknown classes, the cost of width, the reference."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import textures
from onnx import TensorProto, helper, numpy_helper

from edge.host.clock import SystemClock
from trainer import plan
from trainer.evaluation.record import Record
from trainer.job import Progress, Task
from trainer.pipeline import new_job
from trainer.recipe import TrainingError
from trainer.run_folder import RunFolder

RECIPE = """
architecture:
  name: tiny
  input_px: 64
  convs: [{channels: 16, kernel: 4, stride: 4}, {channels: 48, kernel: 3, stride: 2}]
student: {epochs: 1, batch: 16}
prune: {macs: 200000, rounds: 2, multiple: 8}
finetune: {epochs: 1, batch: 16, learning_rate: 0.001}
measure: {latency_rounds: 1, robustness: false, unknown: [oil_drop]}
folds: {count: 2, by: twins}
"""


def reference(path):
    """A fake reference: one convolution."""
    conv = helper.make_node("Conv", ["x", "w"], ["y"], strides=[4, 4])
    graph = helper.make_graph(
        [conv],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((2, 3, 4, 4), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Cloth with a box in the corner of every picture with a fault."""
    folder = tmp_path_factory.mktemp("cloth")
    textures.write(folder, 8)
    stems = [f"{name}_{n}" for name in textures.CLASSES for n in range(1, 9)]
    (folder / "boxes.json").write_text(json.dumps({stem: [["fault", 0, 0, 40, 40]] for stem in stems}), "utf-8")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE, "utf-8")
    return Task(folder, plan.load(recipe), 0, folder / "boxes.json")


@pytest.fixture(scope="module")
def run(task, tmp_path_factory):
    made = RunFolder(tmp_path_factory.mktemp("runs") / "cloth", SystemClock())
    new_job(task, made).make()
    return made


@pytest.fixture(scope="module")
def record(run):
    return Record.load(run.path("record.json"))


def test_defect_free_surface_is_ranked_out_of_fold(record):
    """Both crop sizes, pooled over all pictures, because each is held out once."""
    assert [(one.variant, one.side_px) for one in record.good] == [("fp32", 100), ("fp32", 64)]
    assert all("the folds' held-out pictures" in one.how for one in record.good)
    assert all(one.ranking.positives and one.ranking.negatives for one in record.good)
    assert record.good[1].ranking.negatives == 2 * 24


def test_excluded_class_is_ranked(run, record):
    """All its pictures against unseen pictures of the others, by a student without the class."""
    assert {(one.name, one.score) for one in record.unknown} == {("oil_drop", "energy"), ("oil_drop", "max-softmax")}
    assert all(one.ranking.positives == 8 and one.ranking.negatives > 0 for one in record.unknown)
    own = json.loads(run.path("unknown/oil_drop/fp32/card.json").read_text("utf-8"))
    assert own["classes"] == ["hole", "loose_thread"]


def test_curve_of_pruning_goes_from_wide_to_shipped(record):
    """Before pruning, after the fine-tuned round, and the network that ships, each with its real size."""
    widths = [one.name for one in record.pruning]
    assert (len(widths), widths[0]) == (3, "16-48")
    macs = [one.macs for one in record.pruning]
    assert macs == sorted(macs, reverse=True)
    assert macs[-1] <= 200_000
    assert record.pruning[-1].bytes == record.files[0].bytes
    assert all(one.median_us > 0 and one.right.of for one in record.pruning)


def test_all_measurements_are_in_report_and_card(run):
    """The report has their sections, and card.json their keys."""
    headings = re.findall(r"^## (.+)$", run.path("report.md").read_text("utf-8"), re.MULTILINE)
    wanted = {"Defect-free surface", "Unknown classes", "Pruning: accuracy against cost", "Latency and work"}
    assert wanted <= set(headings)
    metrics = json.loads(run.path("bundle/card.json").read_text("utf-8"))["metrics"]
    assert {"good_surface", "unknown_class", "latency", "accuracy"} <= set(metrics)


def test_reference_is_timed_beside_the_student_without_training_again(task, run, tmp_path):
    """Another reference repeats only the evaluation and the report."""
    started = []
    progress = Progress(lambda stage, _number, _of: started.append(stage))
    new_job(replace(task, reference=reference(tmp_path / "reference.onnx")), run, progress).make()
    assert started == ["evaluate", "report"]
    found = Record.load(run.path("record.json"))
    assert found.latency.ratio("fp32", "call") > 0
    assert "latency" in found.metrics()


def test_class_to_exclude_must_exist(task, tmp_path):
    """The message names the misspelt class and the existing ones."""
    wrong = replace(task, plan=replace(task.plan, folds=None, measure=replace(task.plan.measure, unknown=("oil",))))
    with pytest.raises(TrainingError, match=r"oil: no such class to exclude\. The classes are hole, loose_thread"):
        new_job(wrong, RunFolder(tmp_path / "run", SystemClock())).make()
