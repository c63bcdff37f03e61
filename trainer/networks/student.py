"""The file format of a trained student."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Final

from trainer.networks.architecture import Architecture, Conv, Student
from trainer.recipe import TrainingError
from trainer.training import checkpoint

FORMAT: Final = "defectd.student/1"


def save(student: Student, path: Path) -> None:
    """Write the weights and the architecture, atomically."""
    content = {
        "format": FORMAT,
        "architecture": asdict(student.architecture),
        "classes": student.classes.out_features,
        "good": student.good is not None,
        "dropout": student.dropout.p,
        "weights": {name: value.cpu() for name, value in student.state_dict().items()},
    }
    checkpoint.write(path, content)


def load(path: Path) -> Student:
    """Read a file that `save` wrote.  Raises TrainingError."""
    content = checkpoint.read(path)
    if content.get("format") != FORMAT:
        raise TrainingError(f"{path}: not a student. Delete the file, the next run makes it again")
    shape = content["architecture"]
    convs = tuple(Conv(**conv) for conv in shape["convs"])
    architecture = Architecture(**{**shape, "convs": convs})
    student = Student(architecture, content["classes"], good=content["good"], dropout=content["dropout"])
    student.load_state_dict(content["weights"])
    return student.eval()
