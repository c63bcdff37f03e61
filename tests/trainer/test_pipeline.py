"""From a folder of pictures to a bundle and a report, stage by stage, with cloth instead of steel."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import textures
import torch
from click.testing import CliRunner

from edge.host.clock import SystemClock
from edge.model.bundle import FP32, INT8, load
from edge.model.classifier import Classifier
from trainer import plan
from trainer.cli.commands import main
from trainer.evaluation.record import Record
from trainer.job import Progress, Task
from trainer.networks import teacher
from trainer.pipeline import new_job
from trainer.recipe import TeacherRecipe, TrainingError
from trainer.run_folder import RunFolder

TINY = """
architecture:
  name: tiny
  input_px: 64
  convs: [{channels: 16, kernel: 4, stride: 4}, {channels: 48, kernel: 3, stride: 2}]
teacher: {weights: none, input_px: 32, scratch: [{name: scratch, trained: all, epochs: 1, learning_rate: 0.001}]}
distillation:
student: {epochs: 2, batch: 16}
prune: {macs: 200000, rounds: 2, multiple: 8}
finetune: {epochs: 2, batch: 16, learning_rate: 0.001}
quantize: {gain: 0, agreement: 0, accuracy_drop: 1, corruption_drop: 1, largest_drop: 1, rounds: 2}
measure: {latency_rounds: 1}
"""
PLAIN = "".join(line for line in TINY.splitlines(keepends=True) if not line.startswith(("teacher", "distillation")))
BRIEF = "".join(line for line in PLAIN.splitlines(keepends=True) if not line.startswith(("prune", "finetune")))
STAGES = (
    "data", "teacher", "student", "prune", "finetune", "export", "quantize", "upper_bound", "evaluate", "report",
)  # fmt: skip


@pytest.fixture(scope="module")
def cloth(tmp_path_factory):
    return textures.write(tmp_path_factory.mktemp("cloth"), 10)


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    """tiny: every stage.  plain: without a teacher.  brief: without pruning, too."""
    folder = tmp_path_factory.mktemp("recipes")
    for name, text in (("tiny", TINY), ("plain", PLAIN), ("brief", BRIEF)):
        (folder / f"{name}.yaml").write_text(text, "utf-8")
    return folder


@pytest.fixture(scope="module")
def tiny(recipes):
    return recipes / "tiny.yaml"


@pytest.fixture(scope="module")
def plain(recipes):
    return recipes / "plain.yaml"


@pytest.fixture(scope="module")
def brief(recipes):
    return recipes / "brief.yaml"


@pytest.fixture(scope="module")
def finished(cloth, tiny, tmp_path_factory):
    """A run folder in which all stages are finished."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    made = defectd_train("all", "--data", cloth, "--out", out, "--recipe", tiny)
    assert made.exit_code == 0, made.output
    return out


@pytest.fixture(scope="module")
def finished_plain(cloth, plain, tmp_path_factory):
    """The same without a teacher."""
    out = tmp_path_factory.mktemp("runs") / "plain"
    new_job(Task(cloth, plan.load(plain)), RunFolder(out, SystemClock())).make()
    return out


@pytest.fixture
def copied(finished_plain, tmp_path):
    """A copy of a finished run without a teacher."""
    shutil.copytree(finished_plain, tmp_path / "run")
    return tmp_path / "run"


def defectd_train(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def made_again(cloth, out, wanted, until="report", **given):
    """Run the stages; returns the names of those that were not up to date."""
    seen = []
    progress = Progress(finished=lambda result: seen.append(result.stage) if result.made_now else None)
    new_job(Task(cloth, wanted, **given), RunFolder(out, SystemClock()), progress).make(until)
    return tuple(seen)


def leftovers(out):
    return [
        p for p in out.rglob("*") if p.name.startswith(".") and p.name != ".lock" and (p.is_file() or any(p.iterdir()))
    ]


# Results ----------------------------------------------------------------------------------------------------


def test_all_ends_with_a_bundle_and_a_report(finished):
    """Both networks pass their self-test; record, report and model card are beside the bundle."""
    bundle = load(finished / "bundle")
    assert bundle.card.classes == textures.CLASSES
    assert bundle.card.has_good
    for network in (FP32, INT8):
        Classifier(bundle, network=network).selftest()
    record = Record.load(finished / "record.json")
    assert {s.variant for s in record.summaries} == {"fp32", "int8", "unpruned", "teacher-1"}
    assert [c.stage for c in record.curves] == ["teacher", "student", "finetune"]
    assert bundle.card.metrics["test"]["n"] == record.headline().right.of == 3
    for name in ("report.md", "report.html", "model-card.md"):
        assert (finished / name).stat().st_size > 1000
    assert leftovers(finished) == []


def test_the_card_states_how_the_bundle_was_made(finished):
    """Recipe, seed, data, versions, commit and stages are in it; no text of the run has a path of this machine."""
    training = load(finished / "bundle").card.training
    assert training["recipe"]["student"]["epochs"] == 2
    assert {"seed", "data_sha256", "versions", "commit", "pictures"} <= set(training)
    assert training["stages"] == ["teacher", "student", "prune", "finetune", "export", "quantize"]
    places = (str(finished.parent), "pytest-of", "/home/")
    for path in finished.rglob("*"):
        if path.suffix in (".json", ".md", ".html", ".svg"):
            text = path.read_text("utf-8")
            assert not any(place in text for place in places), path


def test_pruning_removes_channels(finished):
    """The file that ships is the narrower network."""
    record = json.loads((finished / "stages" / "prune.json").read_text())
    assert [one["macs"] for one in record["notes"]["rounds"]][-1] <= 200_000
    assert len(load(finished / "bundle").networks[FP32]) < 4 * 5_000
    assert json.loads((finished / "stages" / "student.json").read_text())["notes"]["macs"] > 400_000


# Up to date, or not ------------------------------------------------------------------------------------------------


def test_a_finished_run_is_not_repeated(cloth, plain, copied):
    """The same command makes no stage."""
    assert made_again(cloth, copied, plan.load(plain)) == ()


def test_only_stages_that_depend_on_a_change_run_again(cloth, plain, copied):
    """A change of fine-tuning keeps the student; another seed keeps the data."""
    wanted = plan.load(plain)
    longer = replace(
        wanted,
        finetune=replace(wanted.finetune, learning_rate=5e-4),
        measure=plan.Measures(latency_rounds=1, robustness=False),
    )
    # Between the rounds of pruning the student is fine-tuned with the same settings.
    assert made_again(cloth, copied, longer, "finetune") == ("prune", "finetune")
    assert made_again(cloth, copied, replace(wanted, quantize=None), "export") == ("prune", "finetune", "export")
    assert made_again(cloth, copied, wanted, "student", seed=1) == ("student",)


def test_without_a_teacher_the_unpruned_student_teaches_the_pruned_one(cloth, plain, copied):
    """Adding distillation keeps the student, and changes the stages from pruning on."""
    wanted = replace(plan.load(plain), distillation=plan.Distillation(alpha=0.1, tau=2.0))
    before = (copied / "finetuned.pt").read_bytes()
    assert made_again(cloth, copied, wanted, "finetune") == ("prune", "finetune")
    assert (copied / "finetuned.pt").read_bytes() != before


def test_new_pictures_repeat_the_training_and_touched_ones_do_not(cloth, plain, copied, tmp_path):
    """A file that was written with the same bytes repeats only the index."""
    pictures = tmp_path / "cloth"
    shutil.copytree(cloth, pictures)
    os.utime(pictures / "hole" / "hole_3.png")
    assert made_again(pictures, copied, plan.load(plain), "student") == ("data",)
    (pictures / "hole" / "hole_3.png").write_bytes((pictures / "hole" / "hole_5.png").read_bytes() + b" ")
    assert made_again(pictures, copied, plan.load(plain), "student") == ("data", "student")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_resumes_after_ctrl_c(cloth, recipes, finished, finished_plain, tmp_path, stage):
    """Interrupted in any stage, nothing is half written, and resuming gives the same files as without interruption."""
    with_teacher = stage in ("teacher", "student")
    copied, wanted = tmp_path / "run", plan.load(recipes / ("tiny.yaml" if with_teacher else "plain.yaml"))
    shutil.copytree(finished if with_teacher else finished_plain, copied)
    record = copied / "stages" / f"{stage}.json"
    before = json.loads(record.read_text())["outputs"]
    record.unlink()

    def stop(*_):
        raise KeyboardInterrupt

    # Stages that report steps are stopped after the first step, the others at their start.
    steps = stage in ("data", "teacher", "student", "prune", "finetune", "quantize", "evaluate")
    progress = Progress(step=stop) if steps else Progress(started=stop)
    task, run = Task(cloth, wanted), RunFolder(copied, SystemClock())
    with pytest.raises(KeyboardInterrupt):
        new_job(task, run, progress).make()
    assert not record.exists()
    assert leftovers(copied) == []
    checkpoints = list((copied / "checkpoints").rglob("*.pt"))
    assert bool(checkpoints) == (stage in ("teacher", "student", "prune", "finetune"))

    reported = []
    new_job(task, run, Progress(step=lambda done, of, _what: reported.append((done, of)))).make(stage)
    after = json.loads(record.read_text())["outputs"]
    assert after.keys() == before.keys()
    if stage not in ("quantize", "evaluate", "report"):  # their files contain times
        assert after == before
    assert not (copied / "checkpoints").exists()


def test_a_stage_command_makes_earlier_stages_first(cloth, brief, tmp_path):
    """`export` trains first; a later `evaluate` does not train again, and prints the counts."""
    made = defectd_train("export", "--data", cloth, "--out", tmp_path / "run", "--recipe", brief)
    assert made.exit_code == 0, made.output
    assert made.stdout.split() == [str(tmp_path / "run" / "fp32")]
    assert not (tmp_path / "run" / "bundle").exists()
    made = defectd_train("evaluate", "--data", cloth, "--out", tmp_path / "run", "--recipe", brief, "--json")
    assert made.exit_code == 0, made.output
    assert "student: done" not in made.stderr
    assert json.loads(made.stdout)["valid"]["n"] == 3
    refused = defectd_train("prune", "--data", cloth, "--out", tmp_path / "run", "--recipe", brief)
    assert (refused.exit_code, "has no stage prune; it has data, student" in refused.output) == (1, True)


def test_folds_evaluate_every_picture_once(cloth, brief, tmp_path):
    """Each fold trains on the others; pooled, every picture of a fault is held out once."""
    made = defectd_train(
        "all", "--data", cloth, "--out", tmp_path / "run", "--recipe", brief, "--folds", "2", "--jobs", "2"
    )
    assert made.exit_code == 0, made.output
    record = Record.load(tmp_path / "run" / "record.json")
    pooled = next(s for s in record.summaries if (s.variant, s.split) == ("fp32", "2 folds by numbers"))
    assert pooled.right.of == 3 * 10
    assert [count.of for count in pooled.folds] == [15, 15]
    assert {s.variant for s in record.summaries} == {"fp32", "int8"}
    assert load(tmp_path / "run" / "bundle").card.sharpness == record.sharpness == pooled.calibration.sharpness
    assert (pooled.calibration.n, pooled.calibration.how) == (30, "fitted on the other folds")


def test_the_final_network_is_trained_on_every_picture(cloth, plain, copied):
    """Only the last stages run again; the report says that the figures are of other networks, and keeps them."""
    before, measured = load(copied / "bundle"), Record.load(copied / "record.json")
    task = Task(cloth, replace(plan.load(plain), final=True))
    made = []
    new_job(task, RunFolder(copied, SystemClock()), Progress(started=lambda stage, *_: made.append(stage))).make()
    assert "student" not in made
    assert next(stage for stage in made if "final" in stage) == "final"
    shipped, record = load(copied / "bundle"), Record.load(copied / "record.json")
    every = json.loads((copied / "data.json").read_text())["splits"]
    count = sum(map(len, every.values()))
    assert shipped.card.training["pictures"] == {"train": count}
    assert f"all {count} pictures" in shipped.card.training["final"]
    assert shipped.networks[FP32] != before.networks[FP32]
    assert shipped.card.temperature == before.card.temperature
    assert set(shipped.networks) == set(before.networks)
    for network in shipped.networks:
        Classifier(shipped, network=network).selftest()
    assert record.final
    assert record.headline().right == measured.headline().right
    assert "trained on every picture" in (copied / "report.md").read_text()


def test_folds_resume_where_they_stopped(cloth, brief, tmp_path):
    """Interrupted in the second of three, finished stages of the first two do not run again."""
    wanted = replace(plan.load(brief), quantize=None, folds=plan.Folds(3))
    task, run, started = Task(cloth, wanted), RunFolder(tmp_path / "run", SystemClock()), []

    def stop(stage, _number, _of):
        if stage == "fold 2 of 3: export":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        new_job(task, run, Progress(started=stop)).make("folds")
    new_job(task, run, Progress(started=lambda stage, *_: started.append(stage))).make("folds")
    folds = [stage.removeprefix("fold ") for stage in started if stage.startswith("fold ")]
    assert folds == ["2 of 3: export", "3 of 3: data", "3 of 3: student", "3 of 3: export"]


# Errors ---------------------------------------------------------------------------------------------------


def test_a_teacher_for_other_classes_is_refused(cloth, tiny, tmp_path):
    """The message names both lists of classes; other files are refused by name, too."""
    other = teacher.Teacher(2, good=True, input_px=32)
    teacher.save(other, tmp_path / "other.pt", classes=("dent", "rust"), recipe=TeacherRecipe(), origin="none")
    torch.save({"weights": 1}, tmp_path / "none.pt")
    lines = {
        "other.pt": "is a teacher for dent, rust; the data has hole, loose_thread, oil_drop",
        "none.pt": "not a teacher",
        "missing.pt": "cannot be read",
    }
    for name, message in lines.items():
        words = ("--data", cloth, "--out", tmp_path / "run", "--recipe", tiny, "--teacher", tmp_path / name)
        made = defectd_train("distill", *words)
        assert (made.exit_code, message in made.output) == (1, True), made.output
    assert not (tmp_path / "run" / "student.pt").exists()


def test_a_given_teacher_is_used(cloth, tiny, finished, tmp_path):
    """It gives the same student in another run; cross-validation refuses it, because it has seen all pictures."""
    words = ("--data", cloth, "--out", tmp_path / "run", "--recipe", tiny, "--teacher", finished / "teacher-1.pt")
    made = defectd_train("distill", *words)
    assert made.exit_code == 0, made.output
    assert (tmp_path / "run" / "student.pt").read_bytes() == (finished / "student.pt").read_bytes()
    made = defectd_train("all", *words, "--folds", "2")
    assert (made.exit_code, "has seen the pictures that a fold holds out" in made.output) == (1, True)


def test_a_damaged_checkpoint_is_named(cloth, plain, copied):
    """The message names the file to delete."""
    (copied / "stages" / "student.json").unlink()
    task, run = Task(cloth, plan.load(plain)), RunFolder(copied, SystemClock())

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        new_job(task, run, Progress(step=stop)).make()
    (checkpoint,) = (copied / "checkpoints").rglob("*.pt")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=rf"{checkpoint.name}: not a file of weights.*Delete it"):
        new_job(task, run).make()


@pytest.mark.system
def test_a_real_process_resumes_after_sigint_and_sigterm(cloth, tmp_path):
    """Stopped by the terminal, then by the system, a training resumes after its last epoch and finishes."""
    recipe = tmp_path / "long.yaml"
    recipe.write_text(
        "architecture: {name: tiny, input_px: 64, convs: [{channels: 16, kernel: 4, stride: 4}]}\n"
        "student: {epochs: 30, batch: 16}\nmeasure: {latency_rounds: 1, robustness: false}\n",
        "utf-8",
    )
    out = tmp_path / "run"
    command = [sys.executable, "-m", "trainer.cli", "all", "--data", cloth, "--out", out, "--recipe", recipe]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(command, env=alone, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            first = {p.stat().st_mtime_ns for p in out.rglob("fit.pt")}
            until = time.monotonic() + 120
            while {p.stat().st_mtime_ns for p in out.rglob("fit.pt")} <= first and time.monotonic() < until:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.01)  # waits for a file of another process
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        assert (process.returncode, "stopped. Run the same command again to resume" in errors) == (1, True), errors
        assert leftovers(out) == []
        assert not (out / "student.pt").exists()
    done = subprocess.run(command, env=alone, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    Classifier(load(out / "bundle")).selftest()


@pytest.mark.system
def test_two_processes_train_one_student(cloth, brief, tmp_path):
    """Under torchrun both take part and the first one writes; a single process can continue the run."""
    out = tmp_path / "run"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = ["-m", "trainer.cli", "distill", "--data", cloth, "--out", out, "--recipe", brief]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, *command], env=alone, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("student: done") == 1
    assert leftovers(out) == []
    assert made_again(cloth, out, plan.load(brief), "export") == ("export",)


@pytest.mark.system
def test_the_bundle_runs_in_the_daemon(cloth, finished, tmp_path):
    """`defectd inspect` reports the classes of the cloth; the daemon inspects a folder of cloth to its end."""
    faults = sorted((cloth / "hole").iterdir())[:3]
    inspect = [sys.executable, "-m", "edge.cli", "inspect", "--json", "--bundle", finished / "bundle", *faults]
    done = subprocess.run(inspect, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 3
    assert {region["class"] for line in lines for region in line["regions"]} <= set(textures.CLASSES)

    config = tmp_path / "config.yaml"
    config.write_text(
        f"node: loom\nstate_dir: {tmp_path / 'var'}\nmodel: {{bundle: {finished / 'bundle'}}}\n"
        "mqtt: {broker: embedded}\nmetrics: {listen: null}\n"
        f"cameras:\n  - {{name: cloth, source: '{cloth}/hole/*.png', mode: parts, fps: 20, tile_px: {textures.SIDE}}}"
        "\n",
        "utf-8",
    )
    command = [sys.executable, "-m", "edge.cli", "run", "-c", config, "--for", "6s"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    events = subprocess.run(
        [sys.executable, "-m", "edge.cli", "events", "-c", config, "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    reported = [json.loads(line) for line in events.stdout.splitlines()]
    assert "node.started" in {event["type"] for event in reported}
    assert "camera.ended" in {event["type"] for event in reported}
    assert {event["model"]["name"] for event in reported if event.get("model")} == {load(finished / "bundle").card.name}
