"""Recipes: strict, with a message that names key, value and remedy."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from trainer import plan
from trainer.networks.architecture import I100_S4
from trainer.recipe import TrainingError

WIDE = """
architecture:
  name: a
  input_px: 96
  convs: [{channels: 400, kernel: 4, stride: 4}, {channels: 400, kernel: 3, stride: 2}]
"""


def written(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("name", plan.SHIPPED)
def test_shipped_recipes_are_valid(name):
    """Each can be read, and its quick form has the same stages."""
    wanted = plan.load(name)
    assert wanted.name == name
    assert plan.check(plan.quick(wanted)).stages == wanted.stages


def test_the_default_recipe_has_every_training_stage():
    """Teacher, distillation, pruning, fine-tuning, ONNX export, int8."""
    assert plan.load("default").stages == (
        "data", "teacher", "student", "prune", "finetune", "export", "quantize", "upper_bound", "evaluate", "report",
    )  # fmt: skip


def test_a_part_that_is_not_named_is_left_out(tmp_path):
    """A key without values selects the default settings; a missing key leaves the stage out."""
    wanted = plan.load(written(tmp_path, "architecture: i100_s4\nstudent: {epochs: 7}\nfolds: {count: 3, by: twins}\n"))
    assert wanted.stages == ("data", "student", "export", "folds", "upper_bound", "evaluate", "report")
    assert (wanted.name, wanted.architecture, wanted.student.epochs) == ("mine", I100_S4, 7)
    assert wanted.folds == plan.Folds(3, "twins")


def test_everything_in_a_plan_is_data(tmp_path):
    """The plan in a record can be validated as a recipe, and gives the same plan."""
    wanted = plan.load("default")
    assert plan.PLANS.validate_python([asdict(wanted)])[0] == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("student: {epoch: 3}", "student.epoch: no such key"),
        ("pruning: {}", "pruning: no such key"),
        ("student: {epochs: many}", "student.epochs: 'many': Input should be a valid integer"),
        ("student: {epochs: 0}", "student.epochs: 0: Input should be greater than or equal to 1"),
        ("student: {epochs: '3'}", "student.epochs: '3'"),
        ("architecture: resnet", "architecture: 'resnet': no such architecture. Use i100_s4"),
        ("teacher:\ndistillation: {alpha: 1.5}", "distillation.alpha: 1.5: Input should be less than or equal to 1"),
        ("teacher: {backbone: resnet}\ndistillation:", "teacher.backbone: 'resnet'"),
        ("distillation:", "distillation without a teacher. Add `teacher:`"),
        ("teacher:", "a teacher without distillation"),
        ("prune: {macs: 3000000}", "pruning without fine-tuning"),
        ("prune: {macs: 9000000}\nfinetune:", "prune.macs: 9000000: i100_s4 has"),
        ("prune: {multiple: 0}\nfinetune:", "prune.multiple: 0: Input should be greater"),
        ("architecture: {name: a, input_px: 96, convs: []}", "architecture.convs: ()"),
        (
            "architecture: {name: a, input_px: 96, convs: [{channels: 8, kernel: 3, stride: 2}]}",
            "architecture.convs.0: kernel 3, stride 2: the first convolution needs a kernel as large as its stride",
        ),
        (
            WIDE,
            "architecture: a has 5,785,600 bytes of weights; at most 626,688 ship",
        ),
        ("student: [1, 2]", "student: [1, 2]"),
        ("student: {epochs: 1}\nstudent: {epochs: 2}", "this key is repeated"),
        ("just words", "a recipe is a mapping of keys to values"),
        ("{", "is not usable YAML"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_key(tmp_path, text, message):
    """Unknown keys, wrong types, values out of range and parts that do not fit together."""
    with pytest.raises(TrainingError) as error:
        plan.load(written(tmp_path, text))
    assert message in str(error.value)


def test_a_missing_recipe_is_refused_with_the_names_of_the_shipped_ones(tmp_path):
    """The message lists the shipped recipes."""
    with pytest.raises(TrainingError, match=r"no such recipe\. Give a file, or one of default, wide, scratch"):
        plan.load(tmp_path / "none.yaml")
