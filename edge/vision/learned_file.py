"""The file of what a calibration learned for one network: numpy arrays, and a head of JSON that names the network."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import numpy as np
import numpy.typing as npt

from edge.errors import ConfigError, Problem
from edge.host import regular_file
from edge.host.zip_errors import ZIP_ERRORS
from edge.model.bundle import FP32, ModelCard

MAX_BYTES: Final = 8 << 20
"""Far above any such file; bounds what a damaged file can make this process read."""
DAMAGED: Final = (*ZIP_ERRORS, TypeError)
HEAD: Final = "head"
Arrays = dict[str, npt.NDArray[Any]]
Learned = TypeVar("Learned")


@dataclass(frozen=True, slots=True)
class Model:
    """The network with whose scores a calibration was made.  sha256: of student.onnx."""

    name: str
    version: str
    sha256: str

    @classmethod
    def of(cls, card: ModelCard) -> Self:
        return cls(card.name, card.version, card.files[FP32])

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.sha256[:12]})"


def coded(schema: str, model: Model, head: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The content of the file."""
    content = json.dumps({"schema": schema, "model": asdict(model), **head}).encode()
    buffer = io.BytesIO()
    members: dict[str, Any] = {HEAD: np.frombuffer(content, np.uint8), **arrays}
    np.savez(buffer, **members)
    return buffer.getvalue()


def decoded(content: bytes, *schemas: str) -> tuple[Model, dict[str, Any], Arrays]:
    """(network, head, arrays) of a file.  Raises one of DAMAGED, also for a schema that is none of `schemas`."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    head = json.loads(bytes(arrays.pop(HEAD)))
    if head["schema"] not in schemas:
        raise ValueError(f"{head['schema']!r}, not {schemas[0]!r}: made by another version of defectd")
    model = head["model"]
    return Model(str(model["name"]), str(model["version"]), str(model["sha256"])), head, arrays


def read(path: Path, decode: Callable[[bytes], Learned], *, key: str, what: str, remedy: str) -> Learned:
    """What the file holds.  Raises ConfigError.

    decode: may raise DAMAGED.  key: of the configuration.  what: the file should hold.  remedy: what the user can do.
    """
    try:
        content = regular_file.read(path, MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError("larger than any such file")
        return decode(content)
    except OSError as error:
        why = str(error.strerror or error)
    except DAMAGED as error:
        why = f"holds no {what}: {error}"
    raise ConfigError("configuration", (Problem(key, str(path), why[:200], remedy),))
