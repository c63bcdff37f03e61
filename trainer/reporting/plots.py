"""Figures of a record as SVG: no window, no global state, the same bytes for the same record."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any, Final

import matplotlib as mpl
from matplotlib import image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trainer.evaluation.latency import REFERENCE, Latency
from trainer.evaluation.outcomes import Summary
from trainer.evaluation.record import Curve, PruningPoint, Shown
from trainer.evaluation.statistics import Count

INK, FAINT, GRID = "#1c2430", "#5a6675", "#e3e8ee"
COLOURS: Final = ("#2463a8", "#d9792b", "#3d8b5f", "#8a5fa8", "#a3453f", "#6b7785")
"""In this order: distinguishable for colour-blind readers, and by the markers in print."""
MARKERS: Final = ("o", "s", "D", "^", "v", "P")
WIDTH: Final = 8.0
COLUMNS: Final = 6
"""Of pictures."""
STYLE: Final[Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#b9c2ce",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "legend.frameon": False,
    "svg.hashsalt": "defectd",
}


def _drawn(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="svg", bbox_inches="tight", pad_inches=0.08, metadata={"Date": None, "Creator": None})
    return out.getvalue()


def training(curves: Sequence[Curve]) -> bytes:
    """The learning curve of each stage, a row each: loss and accuracy over the epochs, in training and held out."""
    with mpl.rc_context(STYLE):
        return _drawn(training_figure(curves))


def training_figure(curves: Sequence[Curve]) -> Figure:
    """Left the losses, right the held-out accuracy with its last value."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.5 * len(curves)), layout="constrained")
        for row, curve in enumerate(curves):
            losses, right = (figure.add_subplot(len(curves), 2, 2 * row + column) for column in (1, 2))
            epochs = [p.epoch for p in curve.points]
            mark = "." if len(epochs) < 10 else ""  # a line with one point is invisible
            style: dict[str, Any] = {"lw": 1.6, "marker": mark}
            held = [(p.epoch, p.held_out_loss) for p in curve.points if p.held_out_loss is not None]
            shown = [p.loss for p in curve.points] + [loss for _, loss in held]
            losses.plot(epochs, [p.loss for p in curve.points], color=COLOURS[0], label="training", **style)
            if held:
                losses.plot(*zip(*held, strict=True), color=COLOURS[1], ls="--", label="held out", **style)
                losses.legend(loc="upper right", handlelength=2.2)
            losses.set(title=curve.stage.replace("_", " "), ylabel="loss (nats)", xlabel="epoch")
            losses.set_ylim(0, 1.08 * max(shown, default=1.0))
            known = [(p.epoch, 100 * p.held_out) for p in curve.points if p.held_out is not None]
            if known:
                right.plot(*zip(*known, strict=True), color=COLOURS[1], **style)
                of = f"held out, n = {curve.held_out}" if curve.held_out else "held out"
                right.set_title(f"{of}; at the end {known[-1][1]:.1f} %", fontweight="normal", fontsize=9.5)
                right.set(ylabel="accuracy (%)", xlabel="epoch")
                right.set_ylim(max(-2, min(v for _, v in known[len(known) // 5 :]) - 3), 101)
            else:
                right.set_axis_off()
            for axes in (losses, right):
                axes.set_xlim(0, max(epochs, default=1) + 0.5)
                axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        return figure


def pictures(shown: Sequence[Shown]) -> bytes:
    """Pictures in a grid, each with its class and what was predicted."""
    rows = -(-len(shown) // COLUMNS)
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(WIDTH, 1.75 * rows), layout="constrained")
        for place, one in enumerate(shown, 1):
            axes = figure.add_subplot(rows, COLUMNS, place)
            axes.imshow(image.imread(io.BytesIO(base64.b64decode(one.png))), cmap="gray", vmin=0, vmax=1)
            is_right = one.truth == one.predicted
            axes.set_title(one.truth, fontsize=7.5, fontweight="normal", loc="center")
            said = f"{'right' if is_right else one.predicted}, {one.confidence:.0%}"
            axes.set_xlabel(said, fontsize=7.5, color=FAINT if is_right else COLOURS[4])
            axes.set(xticks=[], yticks=[])
            axes.spines[["top", "right"]].set_visible(True)
        return _drawn(figure)


def confusion(summary: Summary) -> bytes:
    """Counts. The colour is the share of the true class, on a scale that shows single errors."""
    names = [rates.name.replace("_", " ") for rates in summary.classes]
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        side = max(3.6, 0.72 * len(names) + 1.2)
        figure = Figure(figsize=(side + 1.2, side), layout="constrained")
        axes = figure.add_subplot()
        rows = [[value / max(1, sum(row)) for value in row] for row in summary.confusion]
        axes.imshow([[share**0.4 for share in row] for row in rows], cmap="Blues", vmin=0, vmax=1.15)
        for i, row in enumerate(summary.confusion):
            for j, value in enumerate(row):
                if value:
                    colour = "white" if rows[i][j] > 0.35 else INK
                    weight = "bold" if i != j else "normal"
                    axes.text(j, i, str(value), ha="center", va="center", color=colour, fontweight=weight)
        axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.set(
            xlabel="predicted class",
            ylabel="true class",
            title=f"{summary.variant}, {summary.split}, n = {summary.right.of}",
        )
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, colors=INK)
        return _drawn(figure)


def reliability(summaries: Sequence[Summary]) -> bytes:
    """Accuracy over confidence, and the number of predictions in each bin."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(min(WIDTH, 4.0 * len(summaries)), 4.3), layout="constrained")
        grid = figure.add_gridspec(2, len(summaries), height_ratios=(3, 1))
        for column, (summary, colour) in enumerate(zip(summaries, COLOURS, strict=False)):
            top, bottom = figure.add_subplot(grid[0, column]), figure.add_subplot(grid[1, column])
            top.plot((0, 1), (0, 1), color=FAINT, lw=1, ls="--")
            for b in summary.reliability:
                count = Count.exact(round(b.right * b.n), b.n)
                top.plot((b.confidence, b.confidence), (count.low, count.high), color=colour, lw=1.2, alpha=0.55)
            sizes = [14 + 90 * b.n / summary.right.of for b in summary.reliability]
            top.scatter(
                [b.confidence for b in summary.reliability],
                [b.right for b in summary.reliability],
                s=sizes,
                color=colour,
                zorder=3,
            )
            error = f"ECE {100 * summary.calibration_error:.1f} %"
            top.set(title=f"{summary.variant}: {error}, n = {summary.right.of}", ylabel="accuracy")
            bottom.bar(
                [(b.low + b.high) / 2 for b in summary.reliability],
                [b.n for b in summary.reliability],
                width=0.058,
                color=colour,
            )
            bottom.set(ylabel="pictures", xlabel="published confidence", yscale="log")
            for axes in (top, bottom):
                axes.set_xlim(-0.02, 1.02)
            top.set_ylim(-0.03, 1.05)
        return _drawn(figure)


def robustness(summaries: Sequence[Summary]) -> bytes:
    """Accuracy, clean and under each corruption, with the exact interval."""
    names = ["clean", *summaries[0].robustness]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.34 * len(names) + 1.1), layout="constrained")
        axes = figure.add_subplot()
        for place, summary in enumerate(summaries):
            counts = [summary.right, *(summary.robustness[name] for name in names[1:])]
            _whiskers(axes, counts, place, len(summaries), f"{summary.variant} (n = {summary.right.of} each)")
        axes.axhline(0.5, color="#b9c2ce", lw=0.8)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlabel("accuracy (%), 95 % interval")
        axes.tick_params(axis="y", length=0, colors=INK)
        axes.spines["left"].set_visible(False)
        _legend(axes, len(summaries))
        return _drawn(figure)


def ablation(summaries: Sequence[Summary]) -> bytes:
    """The accuracy of each variant: clean, and the mean over the corruptions."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.5 * len(summaries) + 1.2), layout="constrained")
        axes = figure.add_subplot()
        _whiskers(axes, [s.right for s in summaries], 0, 2, "clean, 95 % interval")
        robust = [(100 * s.robust_mean, y + 0.16) for y, s in enumerate(summaries) if s.robust_mean is not None]
        if robust:
            x, y = zip(*robust, strict=True)
            axes.plot(x, y, MARKERS[1], color=COLOURS[1], ms=5.5, label="mean over the corruptions")
        axes.set_yticks(range(len(summaries)), [f"{s.variant} (n = {s.right.of})" for s in summaries])
        axes.set_ylim(len(summaries) - 0.4, -0.6)
        axes.set_xlabel("accuracy (%)")
        axes.tick_params(axis="y", length=0, colors=INK)
        axes.spines["left"].set_visible(False)
        _legend(axes, 2)
        return _drawn(figure)


def tradeoff(points: Sequence[PruningPoint]) -> bytes:
    """Accuracy over the cost of a tile: multiply-accumulates, bytes and, if timed, microseconds."""
    kinds = [
        ("million multiply-accumulates", [p.macs / 1e6 for p in points]),
        ("kB of fp32", [p.bytes / 1e3 for p in points]),
    ]
    if all(p.median_us is not None for p in points):
        kinds.append(("µs per tile, one thread", [p.median_us or 0.0 for p in points]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        first: Axes | None = None
        for place, (label, x) in enumerate(kinds):
            axes = figure.add_subplot(1, len(kinds), place + 1, sharey=first)
            order = sorted(range(len(points)), key=lambda i: x[i])
            y = [100 * points[i].right.share for i in order]
            low = [100 * (points[i].right.share - points[i].right.low) for i in order]
            high = [100 * (points[i].right.high - points[i].right.share) for i in order]
            axes.errorbar(
                [x[i] for i in order], y, yerr=(low, high), fmt=f"-{MARKERS[0]}", color=COLOURS[0],
                ecolor="#9db8d6", elinewidth=1.2, ms=5, lw=1.3,
            )  # fmt: skip
            axes.set_xlabel(label)
            axes.set_xlim(0, 1.08 * max(x))
            if first is None:
                axes.set_ylabel("accuracy (%), 95 % interval")
                first = axes
            else:
                axes.tick_params(labelleft=False)
        return _drawn(figure)


def latency(measured: Latency) -> bytes:
    """Microseconds per tile on a logarithmic scale: each path of each network, median and p99."""
    with mpl.rc_context(STYLE):
        return _drawn(latency_figure(measured))


def latency_figure(measured: Latency) -> Figure:
    """The median stands in its bar; the p99, and the ratio to the reference, stand at the end of the line to p99."""
    paths: tuple[tuple[str, str, str], ...] = (
        ("one prepared tile per call", "call", "call"),
        ("32 tiles per call (reference: one)", "batch", "call"),
        ("with preprocessing (reference: PIL)", "picture", "picture"),
        ("with preprocessing (reference: cv2)", "picture", "picture cv2"),
    )
    networks = [n for n in ("int8", "fp32", REFERENCE) if measured.path(n, "call") is not None]
    colours = {"fp32": COLOURS[0], "int8": COLOURS[1], REFERENCE: COLOURS[5]}
    paths = paths if REFERENCE in networks else paths[:3]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.26 * len(paths) * (len(networks) + 1) + 0.9), layout="constrained")
        axes = figure.add_subplot()
        ticks = []
        for row, (_, own, other) in enumerate(paths):
            for place, network in enumerate(networks):
                timed = measured.path(network, other if network == REFERENCE else own)
                if timed is None:
                    continue
                y = row * (len(networks) + 1) + place
                median, p99 = timed.median_us / timed.tiles, timed.p99_us / timed.tiles
                axes.barh(y, median, color=colours[network], height=0.82, label=network if row == 0 else None)
                axes.plot((median, p99), (y, y), color=INK, lw=1, marker="|", markevery=[1], ms=7)
                ratio = measured.ratio(network, own, other)
                beside = f"  {ratio:.0f} x" if ratio and network != REFERENCE else ""
                inside = _microseconds(median)
                axes.text(median / 1.06, y, inside, va="center", ha="right", color="white", fontsize=8.5)
                axes.text(p99 * 1.06, y, f"p99 {_microseconds(p99)}{beside}", va="center")
            ticks.append(row * (len(networks) + 1) + (len(networks) - 1) / 2)
        axes.set_xscale("log")
        top = max(t.p99_us / t.tiles for t in measured.paths)
        axes.set_xlim(min(t.median_us / t.tiles for t in measured.paths) / 5, top * 5)
        axes.set_yticks(ticks, [name.replace(" (", "\n(") for name, _, _ in paths])
        axes.invert_yaxis()
        axes.set_xlabel("µs per tile, logarithmic; bar: median, line: to p99; x: median of the reference over this one")
        axes.tick_params(axis="y", length=0, colors=INK)
        axes.grid(visible=False, axis="y")
        _legend(axes, len(networks))
        return figure


def _microseconds(us: float) -> str:
    return f"{us:,.3g} µs" if us < 100 else f"{us:,.0f} µs"


def _whiskers(axes: Axes, counts: Sequence[Count], place: int, of: int, label: str) -> None:
    """Shares in percent with their intervals, one row each.  place: index of this series among `of` series."""
    shift = 0.0 if of == 1 else (place - (of - 1) / 2) * 0.32
    rows = [i + shift for i in range(len(counts))]
    colour = COLOURS[place % len(COLOURS)]
    for y, count in zip(rows, counts, strict=True):
        axes.plot((100 * count.low, 100 * count.high), (y, y), color=colour, lw=1.4, alpha=0.5)
    axes.plot([100 * c.share for c in counts], rows, MARKERS[place % len(MARKERS)], color=colour, ms=5.5, label=label)


def _legend(axes: Axes, columns: int) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, handletextpad=0.4)
