"""report.md, report.html and model-card.md, made from the record alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from trainer.evaluation.latency import REFERENCE, Latency
from trainer.evaluation.outcomes import Comparison, Summary
from trainer.evaluation.record import Record
from trainer.evaluation.statistics import LEVEL, Count
from trainer.reporting import plots
from trainer.reporting.page import (
    Block,
    Code,
    Figure,
    Heading,
    Items,
    Table,
    Text,
    to_html,
    to_markdown,
)
from trainer.reporting.verdict import verdict

RECORD, REPORT, PAGE, CARD, FIGURES = "record.json", "report.md", "report.html", "model-card.md", "figures"
PERCENT: Final = f"{100 * LEVEL:.0f} %"
INTERVAL: Final = f"{PERCENT} interval"
SIGNIFICANT: Final = 0.05
"""Below this p-value the report calls two variants different."""
DISTURBED: Final = 0.05
"""Share of waiting above which the times are marked: other processes used the core."""
OWN_SURFACE: Final = (
    "Train on pictures of your own surface before you rely on the verdicts, and calibrate the thresholds on footage of "
    "defect-free product."
)

TRAINED_ON_ALL: Final = (
    "**The shipped files are trained on every picture.** None is left to measure them with: the figures below are of "
    "networks that were made in the same way, each without the pictures that it is measured on."
)
SCOPE: Final = (
    "The model was trained on the pictures named above and on nothing else. Another mill, camera, lamp or scale is "
    "another surface."
)
DEFECT_FREE: Final = (
    "Every training picture of a defect class shows a defect. On defect-free surface the verdicts depend on the `good` "
    "output, if the model has one, and on the thresholds that you calibrate."
)
DUPLICATES: Final = (
    "Pictures of one coil resemble each other. If near duplicates are in both training and test data, the figures are "
    "too optimistic; the folds of a cross-validation keep them together."
)


def write(record: Record, folder: Path) -> None:
    """Write all files of the report into `folder`; report.html does not need the others."""
    blocks = report(record)
    figures = folder / FIGURES
    figures.mkdir(parents=True, exist_ok=True)
    drawn = {block.name: block.draw() for block in blocks if isinstance(block, Figure)}
    for name, svg in drawn.items():
        (figures / f"{name}.svg").write_bytes(svg)
    record.write(folder / RECORD)
    (folder / REPORT).write_text(to_markdown(blocks, FIGURES), "utf-8")
    (folder / PAGE).write_text(to_html(f"{record.name} {record.version}", blocks, drawn), "utf-8")
    (folder / CARD).write_text(to_markdown(model_card(record)), "utf-8")


def report(record: Record) -> tuple[Block, ...]:
    """The sections of the report; a part that was not measured has no section."""
    return (
        Heading(f"{record.name} {record.version}", 1),
        Text(
            f"Made on {record.made} with seed {record.seed} on {record.machine}. All figures of the student are "
            "measured on exported files, with the code of the daemon."
        ),
        *([Text(TRAINED_ON_ALL)] if record.final else []),
        *_in_short(record),
        *_glance(record),
        *_data(record),
        *_accuracy(record),
        *_pictures(record),
        *_calibration(record),
        *_robustness(record),
        *_surface(record),
        *_ablation(record),
        *_pruning(record),
        *_speed(record),
        *_training(record),
        *_limits(record),
        *_again(record),
    )


def model_card(record: Record) -> tuple[Block, ...]:
    """What a user must know before using the model, in text and tables."""
    parts = (_data, _glance, _accuracy, _calibration, _robustness, _surface, _ablation, _speed, _again)
    blocks = [block for part in parts for block in part(record) if not isinstance(block, Figure)]
    return (
        Heading(f"Model card: {record.name} {record.version}", 1),
        *_what(record),
        *_limits(record),
        *blocks,
    )


def _what(record: Record) -> Iterator[Block]:
    yield Heading("Purpose")
    yield Text(
        f"A convolutional network for gray tiles of {record.tile_px}x{record.tile_px} px, shrunk to {record.input_px}x"
        f"{record.input_px} by area averaging. It distinguishes {len(record.classes)} classes: "
        f"{', '.join(record.classes)}. Made on {record.made} with seed {record.seed}."
    )
    rows = tuple((f"`{name}`", meaning) for name, meaning in record.outputs.items())
    yield Table(
        f"Outputs. Logits are divided by {record.temperature:g} before the softmax.",
        ("output", "meaning"),
        rows,
        words=2,
    )
    files = tuple((f"`{f.name}`", f"{f.bytes:,}", f"`{f.sha256[:16]}...`") for f in record.files)
    yield Table("Files.", ("file", "bytes", "sha256"), files)
    yield Text(
        "**Intended use:** detecting and classifying surface defects in tiles of a camera picture on a CPU, as part of "
        "`defectd`. **Not intended for** surfaces other than those of the training data, or for measuring the size of "
        "a defect."
    )


def _in_short(record: Record) -> Iterator[Block]:
    found = verdict(record)
    if found:
        yield Heading("In short")
        yield Items(found)


def _pictures(record: Record) -> Iterator[Block]:
    samples = [one for one in record.shown if one.truth == one.predicted]
    errors = [one for one in record.shown if one.truth != one.predicted]
    if samples:
        yield Heading("Pictures")
        yield Figure("samples", "One picture of each class, recognised.", partial(plots.pictures, samples))
    if errors:
        yield Heading("Misclassified pictures")
        yield Figure(
            "errors",
            f"{len(errors)} of {record.wrong} misclassified pictures, the most confident first. Above: the "
            "class of the folder; below: what was predicted.",
            partial(plots.pictures, errors),
        )
        names = ", ".join(f"`{one.name}`" for one in errors)
        yield Text(f"Their files: {names}. If such a label is wrong, correct it; the network may be right.")


def _glance(record: Record) -> Iterator[Block]:
    rows: list[tuple[str, ...]] = []
    headline = record.headline()
    if headline is not None:
        shown = [headline, *(s for s in record.of_shipped() if s is not headline)]
        rows += [(f"accuracy, {s.variant}, {s.split}", _count(s.right), _interval(s.right)) for s in shown]
        robust = [s for s in shown if s.robust_mean is not None and s.split == headline.split]
        for s in robust:
            worst = s.robustness[s.robust_worst or ""]
            spread = f"worst {_percent(worst)} ({s.robust_worst})"
            rows.append(
                (
                    f"mean accuracy over {len(s.robustness)} corruptions, {s.variant}",
                    f"{100 * (s.robust_mean or 0):.2f} %",
                    spread,
                )
            )
        rows.append(
            (
                "expected calibration error",
                f"{100 * headline.calibration_error:.1f} %",
                f"{headline.variant}, n = {headline.right.of}",
            )
        )
    rows += [
        (
            f"defect-free surface, AUROC, {g.side_px} px crops, {g.variant}",
            f"{g.ranking.auroc:.3f}",
            f"{g.ranking.low:.3f} to {g.ranking.high:.3f}",
        )
        for g in record.good
    ]
    if record.latency is not None:
        for network in ("int8", "fp32"):
            timed = record.latency.path(network, "call")
            ratio = record.latency.ratio(network, "call")
            if timed is not None:
                beside = f"{ratio:.0f} times faster than the reference" if ratio else f"n = {timed.n}"
                rows.append((f"one tile, {network}, one thread", f"{timed.median_us:.0f} µs", beside))
    rows += [(f"size of `{f.name}`", f"{f.bytes:,} bytes", "") for f in record.files]
    if rows:
        yield Heading("At a glance")
        yield Table(
            f"Intervals are exact {PERCENT} intervals; those of AUROC are bootstrapped over pictures.",
            ("measurement", "value", "range"),
            tuple(rows),
        )


def _data(record: Record) -> Iterator[Block]:
    yield Heading("Data")
    yield Text(f"{record.data.rstrip('.')}.")
    counts = ", ".join(f"{split} {count}" for split, count in record.pictures.items())
    yield Text(
        f"Pictures: {counts}. Classes: {', '.join(record.classes)}. sha256 of the pictures `{record.data_sha256}`."
    )


def _accuracy(record: Record) -> Iterator[Block]:
    shown = record.of_shipped()
    if not shown:
        return
    yield Heading("Accuracy")
    if any(len(s.folds) > 1 for s in shown):
        yield Text(
            "In the rows over folds, networks made in the same way as the shipped one are evaluated, each on the "
            "pictures that its fold holds out, and the counts are added. The other rows evaluate "
            f"{'files that were made in the same way without those pictures' if record.final else 'the shipped files'}."
        )
    yield Table(
        f"Pictures of defects; the prediction is the likeliest class, `good` excluded. {PERCENT} intervals are exact "
        f"(Clopper and Pearson). {_where(record)}",
        ("variant, split", "n", "correct", "accuracy", INTERVAL, "by fold"),
        tuple(
            (
                f"{s.variant}, {s.split}",
                str(s.right.of),
                str(s.right.right),
                _percent(s.right),
                _interval(s.right),
                _folds(s),
            )
            for s in shown
        ),
    )
    headline = record.headline()
    if headline is None:
        return
    yield Table(
        f"By class: {headline.variant}, {headline.split}, n = {headline.right.of}. {_where(record)}",
        ("class", "n", "precision", "interval", "recall", "interval", "F1"),
        tuple(
            (
                r.name, str(r.recall.of), _percent(r.precision), _interval(r.precision), _percent(r.recall),
                _interval(r.recall), f"{r.f1:.4f}",
            )
            for r in headline.classes
        ),
    )  # fmt: skip
    yield Table(
        f"Confusion matrix: rows are true classes, columns predicted classes. {headline.variant}, {headline.split}, "
        f"n = {headline.right.of}. {_where(record)}",
        ("true class", *(r.name for r in headline.classes)),
        tuple((r.name, *map(str, row)) for r, row in zip(headline.classes, headline.confusion, strict=True)),
    )
    yield Figure(
        "confusion",
        f"Confusion matrix of {headline.variant} on {headline.split}, n = {headline.right.of}; errors in bold.",
        partial(plots.confusion, headline),
    )


def _calibration(record: Record) -> Iterator[Block]:
    shown = _one_split(record)
    if not shown:
        return
    yield Heading("Calibration")
    yield Table(
        "Expected calibration error in 15 bins, after division by the temperature. Published: one softmax with `good`, "
        "as the daemon reports it; among the classes: `good` excluded. "
        f"Split: {shown[0].split}. {_where(record)}",
        ("variant", "n", "published", "among the classes"),
        tuple(
            (
                s.variant,
                str(s.right.of),
                f"{100 * s.calibration_error:.2f} %",
                f"{100 * s.calibration_error_among_classes:.2f} %",
            )
            for s in shown
        ),
    )
    yield Figure(
        "reliability",
        "Above the diagonal the accuracy exceeds the confidence. Area: number of pictures; lines: "
        f"{PERCENT} intervals. Split: {shown[0].split}, n = {shown[0].right.of}.",
        partial(plots.reliability, shown[:2]),
    )


def _robustness(record: Record) -> Iterator[Block]:
    shown = [s for s in _one_split(record) if s.robustness]
    if not shown:
        return
    yield Heading("Robustness")
    yield Text(
        "Each corruption is applied to the native picture, before tiles are cut. Its random numbers depend only on the "
        "seed and the picture, so all variants are evaluated on the same pixels."
    )
    names = list(shown[0].robustness)
    rows = [("clean", *(f"{_percent(s.right)} ({_interval(s.right)})" for s in shown))]
    rows += [(n, *(f"{_percent(s.robustness[n])} ({_interval(s.robustness[n])})" for s in shown)) for n in names]
    rows.append((f"**mean of the {len(names)}**", *(f"**{100 * (s.robust_mean or 0):.2f} %**" for s in shown)))
    yield Table(
        f"Accuracy with the {PERCENT} interval. {shown[0].split}, n = {shown[0].right.of} for each figure, "
        f"corruption seed {shown[0].seed}. {_where(record)}",
        ("corruption", *(s.variant for s in shown)),
        tuple(rows),
    )
    yield Figure(
        "robustness",
        f"Accuracy, clean and under each corruption. {shown[0].split}, n = {shown[0].right.of} each.",
        partial(plots.robustness, shown[:3]),
    )


def _surface(record: Record) -> Iterator[Block]:
    if record.good:
        how = "; ".join(dict.fromkeys(g.how for g in record.good))
        yield Heading("Defect-free surface")
        yield Table(
            "AUROC of crops with a defect against crops away from every box; the score is the odds of any defect class "
            f"against `good`. Intervals are bootstrapped over pictures. Crops: {how}. {_where(record)}",
            ("crops", "variant", "with a defect", "defect-free", "AUROC", INTERVAL),
            tuple(
                (
                    f"{g.side_px} px", g.variant, str(g.ranking.positives), str(g.ranking.negatives),
                    f"{g.ranking.auroc:.4f}", f"{g.ranking.low:.3f} to {g.ranking.high:.3f}",
                )
                for g in record.good
            ),
            words=2,
        )  # fmt: skip
    if record.unknown:
        yield Heading("Unknown classes")
        yield Table(
            "Open-set detection: a class is excluded from training, and its pictures are ranked against held-out "
            f"pictures of the other classes. Intervals are bootstrapped over pictures. {_where(record)}",
            ("excluded", "score", "unknown", "known", "AUROC", INTERVAL),
            tuple(
                (
                    u.name, u.score, str(u.ranking.positives), str(u.ranking.negatives),
                    f"{u.ranking.auroc:.3f}", f"{u.ranking.low:.3f} to {u.ranking.high:.3f}",
                )
                for u in record.unknown
            ),
            words=2,
        )  # fmt: skip


def _ablation(record: Record) -> Iterator[Block]:
    splits: dict[str, list[Summary]] = {}
    for s in record.summaries:
        splits.setdefault(s.split, []).append(s)
    shown = max(splits.values(), key=lambda some: (len(some), some[0].right.of), default=[])
    if len(shown) < 2:
        return
    yield Heading("Ablation")
    yield Table(
        f"Variants on {shown[0].split}; corruption seed {shown[0].seed}. {_where(record)}",
        ("variant", "n", "accuracy", INTERVAL, "mean over corruptions", "worst corruption", "ECE"),
        tuple(
            (
                s.variant, str(s.right.of), _percent(s.right), _interval(s.right),
                "" if s.robust_mean is None else f"{100 * s.robust_mean:.2f} %",
                "" if s.robust_worst is None else f"{_percent(s.robustness[s.robust_worst])} ({s.robust_worst})",
                f"{100 * s.calibration_error:.1f} %",
            )
            for s in shown
        ),
    )  # fmt: skip
    yield Figure("ablation", f"Variants on {shown[0].split}, clean and corrupted.", partial(plots.ablation, shown))
    if record.comparisons:
        yield Table(
            "Paired comparison: pictures that only one of the two predicts correctly. p: McNemar's exact test, "
            "two-sided. Changes of accuracy in points, second minus first: clean, mean over the corruptions, worst "
            "corruption. "
            f"{_where(record)}",
            ("first, second", "split", "n", "only first", "only second", "p", "change", "corruptions", "worst"),
            tuple(
                (
                    f"{c.first}, {c.second}", c.split, str(_pairs(c)), str(c.clean.only_first),
                    str(c.clean.only_second), f"{c.clean.p_value:.3g}", _points(c.change), _points(c.mean_change),
                    "" if c.worst is None else f"{_points(c.worst_change)} ({c.worst})",
                )
                for c in record.comparisons
            ),
            words=2,
        )  # fmt: skip
        verdicts = tuple(_verdict(c) for c in record.comparisons if c.split == shown[0].split)
        if verdicts:
            yield Items(verdicts)


def _verdict(c: Comparison) -> str:
    n = _pairs(c)
    if c.clean.p_value >= SIGNIFICANT:
        change = f"{_points(c.change)} points clean"
        return f"**{c.second}** against {c.first}: {change}, not significant (p = {c.clean.p_value:.2g}, n = {n})."
    verdict = "better" if c.change > 0 else "worse"
    evidence = f"p = {c.clean.p_value:.2g}, n = {n}"
    return f"**{c.second}** is {verdict} than {c.first}: {_points(c.change)} points clean ({evidence})."


def _pruning(record: Record) -> Iterator[Block]:
    if not record.pruning:
        return
    yield Heading("Pruning: accuracy against cost")
    split = ", ".join(dict.fromkeys(p.split for p in record.pruning))
    yield Table(
        f"Networks after structured pruning, on {split}; µs: median of a call with one tile, fp32, one thread. "
        f"{_where(record)}",
        ("network", "multiply-accumulates", "bytes", "µs", "n", "accuracy", INTERVAL),
        tuple(
            (
                p.name, f"{p.macs:,}", f"{p.bytes:,}", "" if p.median_us is None else f"{p.median_us:.0f}",
                str(p.right.of), _percent(p.right), _interval(p.right),
            )
            for p in sorted(record.pruning, key=lambda p: -p.macs)
        ),
    )  # fmt: skip
    yield Figure(
        "tradeoff", f"Accuracy against cost, {split}, {PERCENT} intervals.", partial(plots.tradeoff, record.pruning)
    )


PATHS: Final = (
    ("one prepared tile", "call", "call"),
    ("32 prepared tiles, per tile", "batch", "call"),
    ("with preprocessing (reference: PIL)", "picture", "picture"),
    ("with preprocessing (reference: cv2)", "picture", "picture cv2"),
)


def _speed(record: Record) -> Iterator[Block]:
    measured = record.latency
    if measured is None:
        return
    yield Heading("Latency and work")
    if measured.waited > DISTURBED:
        yield Text(
            f"**Disturbed run:** the process waited {100 * measured.waited:.0f} % of the time, because other processes "
            "used the core. Do not rely on the times and ratios of this run; measure again on a quiet machine."
        )
    n, side = max((t.n for t in measured.paths), default=0), f"{measured.tile_px}x{measured.tile_px}"
    where = f"Interleaved, one thread, n = {n} calls each; {measured.machine}, onnxruntime {measured.onnxruntime}."
    yield Table(
        f"µs per tile, median and 99th percentile; preprocessing from {side} px. Ratios: how many times longer the "
        f"reference takes, by median and by 99th percentile. The first call of a burst is not counted. {where}",
        ("path", "network", "median", "p99", "reference / own", "p99 / p99"),
        tuple(_timed_rows(measured)),
        words=2,
    )
    if measured.path(REFERENCE, "call") is not None:
        yield Text(
            "The reference is the published student rebuilt with random weights, which do not affect its speed: "
            "224x224 px, three channels, one picture per call."
        )
    yield Figure("latency", f"Time per tile. {where}", partial(plots.latency, measured))
    rows = []
    for work in measured.work:
        call, batch = measured.path(work.network, "call"), measured.path(work.network, "batch")
        rows.append(
            (
                work.network, f"{work.bytes:,}", f"{work.parameters:,}", f"{work.macs:,}", f"{work.bound_us:.1f}",
                f"{work.bound_us / call.median_us:.0%}" if call else "",
                f"{work.bound_us * batch.tiles / batch.median_us:.0%}" if batch else "",
            )
        )  # fmt: skip
    yield Table(
        "Work of one tile, padding included. Limit: the time of its multiply-accumulates at the best speed of large "
        f"matrix products on this core in the same run, {measured.gops['fp32']:.0f} GFLOP/s in fp32 and "
        f"{measured.gops['int8']:.0f} Gop/s in int8.",
        ("network", "bytes", "parameters", "multiply-accumulates", "limit, µs", "limit / one tile", "limit / 32 tiles"),
        tuple(rows),
    )


def _timed_rows(measured: Latency) -> Iterator[tuple[str, ...]]:
    for label, own, other in PATHS:
        for network in ("int8", "fp32", REFERENCE):
            timed = measured.path(network, other if network == REFERENCE else own)
            if timed is None or (own == "batch" and network == REFERENCE):
                continue
            ratios = [measured.ratio(network, own, other, p99=p99) for p99 in (False, True)]
            beside = ["" if ratio is None or network == REFERENCE else f"{ratio:.1f}" for ratio in ratios]
            yield label, network, f"{timed.median_us / timed.tiles:,.1f}", f"{timed.p99_us / timed.tiles:,.1f}", *beside


def _training(record: Record) -> Iterator[Block]:
    if not record.curves:
        return
    yield Heading("Training")
    yield Figure(
        "training",
        "The learning curve of each stage. Held out: tiles that are never trained on, without augmentation, by the "
        "running average of the weights; the loss there is the cross-entropy, the training loss that of the stage, "
        f"with augmented tiles. {_where(record)}",
        partial(plots.training, record.curves),
    )
    yield Table(
        f"Stages. {_where(record)}",
        ("stage", "epochs", "last loss", "held-out accuracy", "minutes"),
        tuple(
            (
                c.stage,
                str(c.points[-1].epoch),
                f"{c.points[-1].loss:.4f}",
                "" if (held := c.points[-1].held_out) is None else f"{100 * held:.1f} %",
                "" if c.seconds is None else f"{c.seconds / 60:.1f}",
            )
            for c in record.curves
            if c.points
        ),
    )


def _limits(record: Record) -> Iterator[Block]:
    yield Heading("Before you rely on it")
    yield Text(f"**{OWN_SURFACE}**")
    yield Items(
        (
            SCOPE,
            DEFECT_FREE,
            DUPLICATES,
            *record.notes,
        )
    )


def _again(record: Record) -> Iterator[Block]:
    yield Heading("How to reproduce this run")
    if record.command:
        yield Code(record.command)
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    commit = f"Commit `{record.commit}`. " if record.commit else ""
    yield Text(f"{commit}Seed {record.seed}. {record.machine}.{f' Versions: {versions}.' if versions else ''}")
    if record.recipe:
        yield Code(json.dumps(record.recipe, indent=2, ensure_ascii=False))


def _one_split(record: Record) -> list[Summary]:
    """The shipped variants, on the split of the headline."""
    headline = record.headline()
    return [s for s in record.of_shipped() if headline is not None and s.split == headline.split]


def _where(record: Record) -> str:
    return f"Seed {record.seed}; {record.machine}."


def _count(count: Count) -> str:
    return f"{_percent(count)} ({count.right:,} of {count.of:,})"


def _percent(count: Count) -> str:
    return f"{100 * count.share:.2f} %" if count.of else "none"


def _interval(count: Count) -> str:
    return f"{100 * count.low:.1f} to {100 * count.high:.1f}" if count.of else ""


def _folds(summary: Summary) -> str:
    return "" if len(summary.folds) < 2 else " ".join(f"{fold.right}/{fold.of}" for fold in summary.folds)


def _points(change: float | None) -> str:
    return "" if change is None else f"{100 * change:+.2f}"


def _pairs(c: Comparison) -> int:
    return c.clean.both + c.clean.only_first + c.clean.only_second + c.clean.neither
