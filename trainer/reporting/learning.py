"""What a learning curve shows: whether a stage learned its pictures by heart, or had not finished to learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from trainer.evaluation.record import Curve, Point

MIN_HELD_OUT: Final = 20
"""Held-out tiles: with fewer a curve jumps by chance, and shows nothing."""
MIN_EPOCHS: Final = 10
RISE: Final = 1.25
"""The held-out loss at the end over its minimum, from which a stage counts as overfitted."""
RISE_NATS: Final = 0.05
"""And at least this much: a ratio of two tiny losses shows nothing."""
GAIN: Final = 0.02
"""Held-out accuracy that the last fifth of the epochs still gained, from which a stage counts as unfinished."""
HIGH: Final = 0.97
"""Accuracy from which a further gain no longer matters."""


def remark(curves: Sequence[Curve]) -> str | None:
    """A sentence on the last stage that was watched with enough held-out tiles; None where its curve is sound."""
    watched = [one for one in curves if one.held_out >= MIN_HELD_OUT and len(one.points) >= MIN_EPOCHS]
    if not watched:
        return None
    return _overfitted(watched[-1]) or _unfinished(watched[-1])


def _overfitted(curve: Curve) -> str | None:
    losses = [(point.held_out_loss, point.epoch) for point in curve.points if point.held_out_loss is not None]
    if not losses:
        return None
    (lowest, best), part = min(losses), max(1, len(losses) // 10)
    last = sum(loss for loss, _ in losses[-part:]) / part
    if last < max(RISE * lowest, lowest + RISE_NATS):
        return None
    return (
        f"**It overfits:** in the stage {curve.stage} the loss on {curve.held_out} held-out tiles was lowest in epoch "
        f"{best} of {losses[-1][1]} ({lowest:.2f}) and is {last:.2f} at the end. Fewer epochs, or more pictures, help."
    )


def _unfinished(curve: Curve) -> str | None:
    known = [point for point in curve.points if point.held_out is not None]
    part = len(known) // 5
    if part == 0:
        return None
    before, last = _mean(known[-2 * part : -part]), _mean(known[-part:])
    if last >= HIGH or last - before < GAIN:
        return None
    return (
        f"**It had not finished to learn:** in the stage {curve.stage} the accuracy on {curve.held_out} held-out tiles "
        f"still rose by {100 * (last - before):.0f} points in the last fifth of the epochs. More epochs help."
    )


def _mean(points: Sequence[Point]) -> float:
    return sum(point.held_out or 0.0 for point in points) / len(points)
