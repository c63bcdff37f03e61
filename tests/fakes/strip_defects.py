"""The defects that a generated strip contains."""

from __future__ import annotations

from edge.camera.sources.simulator import Strip


def defects_of(strip: Strip, frames: int, trailing: int) -> list[tuple[str, int, int]]:
    """Class, first and last frame of each defect that comes and goes, the last `trailing` frames left out."""
    span: dict[int, tuple[str, int, int]] = {}
    for number in range(frames):
        for defect, _ in strip.truth(number):
            name, first, _last = span.get(defect.track, (defect.class_name, number, number))
            span[defect.track] = name, first, number
    return [(name, first, last) for name, first, last in span.values() if first > 0 and last < frames - trailing]
