"""What the figures of a record mean, in words: how good it is, where it is weak, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from trainer.evaluation.outcomes import Summary
from trainer.evaluation.record import Record
from trainer.reporting import learning

GRADES: Final = (
    (0.97, "Very good on pictures like these"),
    (0.9, "Good on pictures like these"),
    (0.75, "Useful with a person who looks at its verdicts"),
    (0.0, "Not usable yet"),
)
"""Accuracy, and what it means."""
FEW: Final = 100
"""Pictures: with fewer the interval is too wide to compare recipes."""
WEAK_CLASS: Final = 0.9
WEAK_CONDITION: Final = 0.9


def verdict(record: Record) -> tuple[str, ...]:
    """Sentences, the most important first; empty where nothing was measured on pictures."""
    headline = record.headline()
    return () if headline is None else tuple(_sentences(record, headline))


def _sentences(record: Record, headline: Summary) -> Iterator[str]:
    found, trial = headline.right, record.recipe.get("most_per_class")
    grade, surely = (next(words for least, words in GRADES if share >= least) for share in (found.share, found.low))
    if surely != grade:
        grade += f", as far as {found.of} pictures can tell"
    yield (
        f"**{grade}:** {found.right:,} of {found.of:,} pictures get the right class ({100 * found.share:.1f} %; with "
        f"other pictures of this kind, between {100 * found.low:.0f} and {100 * found.high:.0f} %)."
    )
    if trial:
        yield (
            f"**This is a trial:** at most {trial} pictures of a class and {_epochs(record)} epochs. It shows that "
            "everything runs; a training without --quick is better."
        )
    weakest = min(headline.classes, key=lambda rates: rates.recall.share if rates.recall.of else 1.0)
    if weakest.recall.of and weakest.recall.right < weakest.recall.of:
        yield (
            f"**Weakest class:** {weakest.name}, {weakest.recall.right} of {weakest.recall.of} found"
            f"{_taken_for(headline, weakest.name)}."
        )
    else:
        yield "No class is weaker than the others: all pictures are right."
    if headline.robust_worst is not None:
        worst = headline.robustness[headline.robust_worst]
        word = "Weakest condition" if worst.share < WEAK_CONDITION else "Even the hardest condition is bearable"
        yield f"**{word}:** {headline.robust_worst}, {100 * worst.share:.1f} % right."
    seen = learning.remark(record.curves)
    if seen:
        yield seen
    yield f"**Next:** {_next_step(record, headline)}"


def _taken_for(headline: Summary, name: str) -> str:
    names = [rates.name for rates in headline.classes]
    row = list(headline.confusion[names.index(name)])
    row[names.index(name)] = 0
    return f"; most often it is taken for {names[row.index(max(row))]} ({max(row)})" if any(row) else ""


def _epochs(record: Record) -> int:
    return max((curve.points[-1].epoch for curve in record.curves if curve.points), default=0)


def _next_step(record: Record, headline: Summary) -> str:
    weakest = min(headline.classes, key=lambda rates: rates.recall.share if rates.recall.of else 1.0)
    if record.recipe.get("most_per_class"):
        return "train without --quick."
    if headline.right.of < FEW and len(headline.folds) < 2:
        return "only a few pictures judge this model. Repeat with `--folds 5`, which lets every picture judge once."
    if weakest.recall.of and weakest.recall.share < WEAK_CLASS:
        return f"look at the pictures of {weakest.name} below: are the labels right? If so, add pictures of it."
    if "good" not in record.outputs:
        return "add a folder `good` with defect-free surface: without it every tile is called a defect of some class."
    return "install the bundle, and run `defectd calibrate thresholds` on footage of your own line."
