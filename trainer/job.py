"""One training: what to train, the run folder, and the loop over its stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from edge.model import bundle
from edge.model.bundle import Bundle
from trainer.data.boxes import read_boxes
from trainer.data.index import Index
from trainer.data.training_set import TrainingSet, training_set
from trainer.plan import Plan
from trainer.run_folder import RunFolder, StageResult

Results = dict[str, StageResult]
"""Name of a stage -> its result, in the order of the stages."""
WEIGHTS: Final = {"student": "student.pt", "prune": "pruned.pt", "finetune": "finetuned.pt"}
"""Stage that trains the student -> its file."""


@dataclass(frozen=True, slots=True)
class Task:
    """What to train, on which data.

    teachers: files of trained teachers; none: the teacher is trained here.  good_folders: pictures of defect-free
    surface that are only evaluated.  reference: an ONNX file to time beside the student.  jobs: folds that are trained
    in parallel.
    """

    folder: Path
    plan: Plan
    seed: int = 0
    boxes: Path | None = None
    teachers: tuple[Path, ...] = ()
    good_folders: tuple[Path, ...] = ()
    reference: Path | None = None
    jobs: int = 1


def _ignore(*_report: object) -> None:
    """A named function, not a lambda: a Job must be picklable to train folds in other processes."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Callbacks that report the progress of a training."""

    started: Callable[[str, int, int], None] = _ignore
    """A stage that is not up to date starts: its name, its number, and the number of stages."""
    step: Callable[[int, int, str], None] = _ignore
    """Steps done, steps in all (0: unknown), and a few words."""
    finished: Callable[[StageResult], None] = _ignore


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage has to do.

    settings: everything that decides the result besides the stages it needs, as JSON.  make: gets a draft folder for
    its files and a folder for checkpoints; returns the notes of the stage.
    """

    settings: dict[str, Any]
    make: Callable[[Path, Path], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Stage:
    """One row of the table of contents.

    work: (job, results of the earlier stages) -> what to do.  needs: stages whose files it reads, if the plan has them.
    distributed: with `torchrun`, all processes take part; otherwise only the first one makes the stage.
    """

    name: str
    work: Callable[[Job, Results], Work]
    needs: tuple[str, ...] = ()
    distributed: bool = False


@dataclass
class Job:
    """One training, or one fold of a cross-validation.

    own_index: the index of a fold; None: the index of the task's folder.  label: prefix of the stages of a fold in
    progress reports.
    """

    task: Task
    run: RunFolder
    stages: tuple[Stage, ...]
    progress: Progress = field(default_factory=Progress)
    own_index: Index | None = None
    label: str = ""
    _current: tuple[str, int, int] = field(default=("", 0, 0), init=False)

    def make(self, until: str = "report") -> StageResult:
        """Make every stage of the plan up to `until`, unless it is up to date.  Raises TrainingError."""
        names = self.task.plan.up_to(until)
        results: Results = {}
        for number, stage in enumerate([stage for stage in self.stages if stage.name in names], 1):
            work = stage.work(self, results)
            needs = [results[name] for name in stage.needs if name in results]
            self._current = self.label + stage.name, number, len(names)
            result = self.run.stage(stage.name, work.settings, needs, work.make, started=self.announce)
            results[stage.name] = result
            self.progress.finished(result)
        return results[names[-1]]

    def announce(self) -> None:
        """Report the current stage; after a nested job, report it again."""
        self.progress.started(*self._current)

    def nested(self, task: Task, folder: str, index: Index, label: str) -> Job:
        """The job that trains on a part of the pictures, in a folder inside the run folder."""
        run = RunFolder(self.run.path(folder), self.run.clock, command=self.run.command)
        return Job(task, run, self.stages, self.progress, index, label)

    @cached_property
    def index(self) -> Index:
        return Index.from_json(self.run.path("data.json"), self.task.folder)

    @cached_property
    def training_set(self) -> TrainingSet:
        boxes = read_boxes(self.task.boxes) if self.task.boxes else {}
        plan = self.task.plan
        return training_set(
            self.index, boxes, strip_seeds=plan.student.strip_seeds, input_px=plan.architecture.input_px,
            seed=self.task.seed,
        )  # fmt: skip

    def student_file(self, results: Results) -> Path:
        """The student as the latest training stage wrote it."""
        return self.run.path(WEIGHTS[[name for name in WEIGHTS if name in results][-1]])

    def shipped(self) -> Bundle:
        """The files that ship: those that were measured, or those that were trained on every picture."""
        return bundle.load(self.run.path("final")) if self.task.plan.final else self.bundle()

    def bundle(self) -> Bundle:
        """The files that are measured: with int8 if the plan quantizes and int8 passed the gate."""
        return bundle.load(self.run.path("int8" if self.task.plan.quantize else "fp32"))
