"""Progress on stderr: a bar with the remaining time on a terminal, lines at intervals elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

import click
from tqdm import tqdm  # type: ignore[import-untyped]

from edge.host.clock import NS_PER_S, SystemClock
from trainer.job import Progress
from trainer.run_folder import StageResult

LINE_INTERVAL_S: Final = 20
"""Minimum time between two lines about one stage, without a terminal."""


PURPOSES: Final = {
    "train": "train",
    "held_out": "are held out for the temperature",
    "valid": "are valid and choose the int8 network",
    "test": "only measure (test)",
}
"""What the pictures of each split do."""


class ProgressBars:
    """Prints the progress of a job.  quiet: prints nothing."""

    def __init__(self, *, quiet: bool) -> None:
        self._terminal, self._quiet = sys.stderr.isatty(), quiet
        self._bar: Any = None
        self._name, self._printed_ns = "", 0
        self._clock = SystemClock()
        self.progress = Progress(self._started, self._step, self._finished)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _started(self, stage: str, number: int, of: int) -> None:
        self.close()
        self._name, self._printed_ns = f"{number}/{of} {stage}", self._clock.monotonic_ns()
        if self._terminal and not self._quiet:
            self._bar = tqdm(total=None, desc=self._name, dynamic_ncols=True, leave=False)
        else:
            self._print(f"{self._name} ...")

    def _step(self, done: int, of: int, what: str) -> None:
        if self._bar is not None:
            if of and self._bar.total != of:
                self._bar.reset(total=of)
            self._bar.set_postfix_str(what, refresh=False)
            self._bar.update(max(0, done - self._bar.n) if of else 1)
        elif self._clock.monotonic_ns() - self._printed_ns > LINE_INTERVAL_S * NS_PER_S:
            self._printed_ns = self._clock.monotonic_ns()
            self._print(f"{self._name}: {f'{done} of {of} ' if of else ''}{what}")

    def _finished(self, result: StageResult) -> None:
        self.close()
        if result.made_now:
            self._print(f"{self._name or result.stage}: done in {result.seconds:.0f} s")
        if result.notes.get("origin"):
            self._print(f"  network: {result.notes['origin']}")
        if result.stage == "data":
            self._print(f"  {shares(result.notes['pictures'])}")
            for note in result.notes.get("notes", ()):
                self._print(f"  note: {note}")

    def _print(self, text: str) -> None:
        if not self._quiet:
            click.echo(text, err=True)


def shares(pictures: Mapping[str, Mapping[str, int]]) -> str:
    """How many pictures train, and how many do not, and why.  pictures: split -> class -> number."""
    counts = {split: sum(by_class.values()) for split, by_class in pictures.items()}
    total = sum(counts.values())
    parts = [f"{count} {PURPOSES[split]} ({count / total:.0%})" for split, count in counts.items() if count]
    return f"{total} pictures: {', '.join(parts)}"
