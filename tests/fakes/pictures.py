"""An archive of pictures with chosen facts: the bytes are no picture, but the file is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.event import Evidence
from edge.evidence.archive import Archive, Kind

SCORES = {"scratches": 0.52, "inclusion": 0.31, "good": 0.09}


class Pictures:
    """Adds pictures to a folder, each with bytes of its own."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        self.folder = folder
        self.archive = Archive(folder, **{"max_bytes": 1 << 24, "min_free_bytes": 0, **limits})
        self.archive.open()
        self._count = 0

    def add(self, kind: Kind = "unsure", camera: str = "top", **facts: Any) -> Evidence:
        """One picture.  facts: besides the usual ones; None leaves one out."""
        self._count += 1
        jpeg = b"\xff\xd8\xff\xda" + self._count.to_bytes(4, "big") + b"\xff\xd9"
        usual: dict[str, Any] = {
            "label": {"unsure": "unsure", "audit": "good"}.get(kind, "scratches"),
            "time": f"2026-11-22T{10 + self._count // 60 % 12:02d}:{self._count % 60:02d}:00.000Z",
            "crop_px": [64, 0, 64, 64],
            "frame_px": [1600, 256],
        }
        if kind == "defect":
            usual |= {"confidence": 0.9, "box_in_picture": [0.2, 0.2, 0.5, 0.5], "track_id": f"t{self._count}"}
        else:
            usual["scores"] = SCORES
        known = {name: value for name, value in (usual | facts).items() if value is not None}
        return self.archive.add(kind, camera, jpeg, known)

    def several(self, number: int, kind: Kind = "unsure") -> list[Evidence]:
        """So many pictures of a kind."""
        return [self.add(kind) for _ in range(number)]
