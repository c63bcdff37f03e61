"""The table of contents of a training: from a folder of pictures to a bundle and a report.

`Job.make` goes through the rows that the plan has, in this order. A stage runs if its settings or the files of the
stages that it needs have changed; otherwise the run folder has its files already.
"""

from __future__ import annotations

from typing import Final

from trainer import folds
from trainer.job import Job, Progress, Stage, Task
from trainer.run_folder import RunFolder
from trainer.stages import measurement, release, report, training, upper_bound

STUDENT: Final = ("data", "teacher", "student", "prune", "finetune")
ALL: Final = (*STUDENT, "export", "quantize", "folds", "unknown", "upper_bound", "evaluate", "final")

# fmt: off
STAGES: Final = (
    #     name        what it does                        the stages it needs               under torchrun
    Stage("data",     training.index_pictures,            (),                               distributed=True),
    Stage("teacher",  training.train_teacher,             ("data",),                        distributed=True),
    Stage("student",  training.train_student,             ("data", "teacher"),              distributed=True),
    Stage("prune",    training.prune_student,             ("data", "teacher", "student"),   distributed=True),
    Stage("finetune", training.finetune_student,          STUDENT[:-1],                     distributed=True),
    Stage("export",   release.export,                     STUDENT),
    Stage("quantize", release.quantize_student,           ("data", "export")),
    Stage("folds",    folds.cross_validate,               ("data",)),
    Stage("unknown",  measurement.detect_unknown_classes, ("data",)),
    Stage("upper_bound", upper_bound.measure_upper_bound, ("data",)),
    Stage("evaluate", measurement.evaluate_files,         ("data", "export", "quantize")),
    Stage("final",    release.train_on_everything,        ("data", "teacher", "export", "quantize")),
    Stage("report",   report.write_report,                ALL),
)
# fmt: on


def new_job(task: Task, run: RunFolder, progress: Progress | None = None) -> Job:
    """The training of a task in a run folder."""
    return Job(task, run, STAGES, progress or Progress())
