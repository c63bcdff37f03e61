"""The report shows the record, and each figure with its context."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from fakes import record as fakes_record

from trainer.evaluation.record import Curve, Record, Shown
from trainer.reporting import page, plots, report
from trainer.reporting.verdict import verdict
from trainer.training.loop import Epoch

EMPTY = {
    "summaries": (),
    "comparisons": (),
    "curves": (),
    "good": (),
    "unknown": (),
    "pruning": (),
    "latency": None,
    "recipe": {},
    "commit": None,
}


@pytest.fixture(scope="module")
def record():
    return fakes_record.record()


@pytest.fixture(scope="module")
def folder(record, tmp_path_factory):
    where = tmp_path_factory.mktemp("run") / "report"
    report.write(record, where)
    return where


class Reader(HTMLParser):
    """Collects the open tags, everything the page loads, and the text."""

    def __init__(self):
        super().__init__()
        self.open, self.loaded, self.words, self.pictures = [], [], [], 0

    def handle_starttag(self, tag, attrs):
        self.loaded += [value for name, value in attrs if name in ("src", "href")]
        self.pictures += tag == "img"
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


def test_page_needs_no_other_file(folder):
    """The page is well-formed, has seven figures inside, no script, and fetches nothing."""
    text = (folder / "report.html").read_text("utf-8")
    reader = read(text)
    assert reader.pictures == 7
    assert all(source.startswith("data:image/svg+xml;base64,") for source in reader.loaded)
    assert "<script" not in text
    assert "@import" not in text


def test_page_and_markdown_have_the_same_text(folder):
    """Every heading, caption and cell of the Markdown is on the page; the figures of the Markdown exist."""
    markdown = (folder / "report.md").read_text("utf-8")
    words = "".join(read((folder / "report.html").read_text("utf-8")).words)
    for line in markdown.splitlines():
        for cell in line.strip("| ").split(" | "):
            plain = cell.replace("`", "").replace("**", "").lstrip("#- ").strip()
            if plain and set(plain) > set(":- ") and not plain.startswith("!["):
                assert plain in words, line
    named = re.findall(r"\]\((figures/[a-z]+\.svg)\)", markdown)
    assert sorted(named) == sorted(f"figures/{p.name}" for p in (folder / "figures").iterdir())
    assert len(named) == 7


def test_every_table_of_figures_states_n_split_seed_and_machine(record):
    """Table and caption alone define what is counted."""
    for block in report.report(record):
        if isinstance(block, page.Table) and "Seed" in block.caption:
            assert "Seed 7; Invented 3000, 2 cores, Linux." in block.caption
            text = block.caption + " ".join(block.head) + " ".join(c for row in block.rows for c in row)
            counted = "n = " in text or "n" in block.head or "defect-free" in block.head or "unknown" in block.head
            assert counted or "epochs" in block.head, block.caption
    captions = [b.caption for b in report.report(record) if isinstance(b, page.Table) and "Seed 7" in b.caption]
    assert len(captions) >= 8


def test_figures_are_those_of_the_record(folder, record):
    """The headline counts, the worst corruption, a pair, a ratio and the limit of the core are in the report."""
    text = (folder / "report.md").read_text("utf-8")
    headline = record.headline()
    assert f"({headline.right.right:,} of 600)" in text
    worst = headline.robustness[headline.robust_worst]
    assert f"worst {100 * worst.share:.2f} % ({headline.robust_worst})" in text
    pair = record.comparisons[0]
    assert f"| scratch, distilled | grouped 5-fold | 600 | {pair.clean.only_first} | {pair.clean.only_second} |" in text
    assert "| one prepared tile | int8 | 50.0 | 80.0 | 44.0 | 44.0 |" in text
    assert "| fp32 | 467,080 | 116,407 | 4,533,664 | 84.0 | 92% | 96% |" in text


def test_only_significant_differences_are_called_better_or_worse(record):
    """A difference that may be chance is called not significant; a clear one is called worse."""
    text = page.to_markdown(report.report(record))
    assert "not significant (p = " in text
    low, high = fakes_record.outcomes("low", 0.01), fakes_record.outcomes("high", 0.10, seed=1)
    clear = fakes_record.record(comparisons=(fakes_record.compare(low, high),))
    assert "**high** is worse than low" in page.to_markdown(report.report(clear))


def test_licence_and_warning_are_in_report_and_card(folder):
    """Owner and licence of the pictures, and the advice to train on pictures of one's own."""
    for name in ("report.md", "report.html", "model-card.md"):
        text = (folder / name).read_text("utf-8")
        assert "Invented pictures by a fictional author; no licence is stated" in text
        assert "Train on pictures of your own surface before you rely on the verdicts" in text
        assert "The figures of this record are invented." in text


def test_model_card_explains_each_output(folder, record):
    """It has outputs, temperature, and the command that repeats the run, and no links."""
    text = (folder / "model-card.md").read_text("utf-8")
    assert all(name in text and meaning in text for name, meaning in record.outputs.items())
    assert "Logits are divided by 0.97" in text
    assert record.command in text
    assert "](" not in text


def test_a_part_that_was_not_measured_has_no_section(tmp_path):
    """A bare record gives a report without figures, not an error."""
    report.write(fakes_record.record(**EMPTY), tmp_path)
    text = (tmp_path / "report.md").read_text("utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["At a glance", "Data", "Before you rely on it", "How to reproduce this run"]
    assert list((tmp_path / "figures").iterdir()) == []


def test_report_of_the_fp32_file_alone(record):
    """Without int8, reference, `good` output and a second split, the report shows the rest."""
    summary = fakes_record.outcomes("fp32", 0.02, count=72, split="test").summary()
    times = fakes_record.latency()
    own = tuple(t for t in times.paths if t.network == "fp32")
    alone = fakes_record.record(
        **(EMPTY | {"summaries": (summary,), "latency": fakes_record.replace(times, paths=own, work=times.work[:1])})
    )
    text = page.to_markdown(report.report(alone))
    assert "The reference is" not in text
    assert "int8" not in text.replace("Gop/s in int8", "").replace("student.int8.onnx", "")
    assert "fp32, test" in text


def test_disturbed_run_is_marked(record):
    """If other processes used the core, the report warns above the table."""
    disturbed = fakes_record.record(latency=fakes_record.replace(record.latency, waited=0.3))
    text = page.to_markdown(report.report(disturbed))
    assert "waited 30 % of the time" in text
    assert "Disturbed" not in page.to_markdown(report.report(record))


def test_plots_are_reproducible(record):
    """They have no date and no random names: an unchanged record gives the same bytes."""
    assert plots.robustness(record.of_shipped()[:2]) == plots.robustness(record.of_shipped()[:2])
    assert b"<dc:date>" not in plots.latency(record.latency)


def test_latency_figure_prints_the_median_in_the_bar_and_p99_at_its_line(record):
    """Each number stands where the figure draws it."""
    axes = plots.latency_figure(record.latency).axes[0]
    bars = {bar.get_y() + bar.get_height() / 2: bar.get_width() for bar in axes.patches}
    ends = {line.get_ydata()[0]: line.get_xdata()[1] for line in axes.lines}
    assert len(bars) == 12
    for y, median in bars.items():
        inside, outside = sorted(
            (t for t in axes.texts if abs(t.get_position()[1] - y) < 0.1), key=lambda t: t.get_position()[0]
        )
        p99 = next(end for at, end in ends.items() if abs(at - y) < 0.1)
        assert float(inside.get_text().removesuffix(" µs").replace(",", "")) == pytest.approx(median, rel=0.01)
        assert inside.get_position()[0] < median
        assert inside.get_horizontalalignment() == "right"
        assert float(outside.get_text().split()[1].replace(",", "")) == pytest.approx(p99, rel=0.01)
        assert outside.get_position()[0] > p99


def test_report_can_be_made_from_record_json_alone(folder):
    """The loaded record gives the same report and model card."""
    again = Record.load(folder / "record.json")
    assert page.to_markdown(report.report(again)) == (folder / "report.md").read_text("utf-8")
    assert page.to_markdown(report.model_card(again)) == (folder / "model-card.md").read_text("utf-8")


def test_text_of_the_user_is_escaped():
    """A class or note that looks like HTML, or contains a bar, stays text."""
    table = page.Table("<b>", ("a",), (("<script>alert(1)</script> | x",),))
    assert "<script>" not in page.to_html("<title>", [table, page.Text("a & b"), page.Code("<pre>")], {})
    assert "\\| x" in page.to_markdown([table])


def test_report_opens_with_a_verdict_in_words(record, folder):
    """Before any table: how good it is, the weakest class and condition, and what to do next."""
    text = (folder / "report.md").read_text()
    first = text[: text.index("| ")]
    for word in ("In short", "pictures get the right class", "Weakest class", "Next:"):
        assert word in first, word
    assert verdict(replace(record, **EMPTY)) == ()


@pytest.mark.parametrize(
    ("wrong", "count", "changes", "words"),
    [
        (0.0, 600, {}, ("Very good", "No class is weaker")),
        (0.4, 600, {}, ("Not usable yet", "are the labels right?")),
        (0.0, 60, {}, ("Very good on pictures like these, as far as 60 pictures can tell", "--folds 5")),
        (0.0, 60, {"recipe": {"most_per_class": 40}}, ("This is a trial", "train without --quick")),
    ],
)
def test_verdict_depends_on_the_figures(record, wrong, count, changes, words):
    """A grade that the interval does not support is qualified; the next step follows what is weakest."""
    only = fakes_record.outcomes("fp32", wrong, count=count, split="test").summary()
    found = " ".join(verdict(replace(record, summaries=(only,), **changes)))
    for word in words:
        assert word in found


def test_misclassified_pictures_are_shown_with_what_was_predicted(record, tmp_path):
    """The class of the folder, the predicted one, the confidence, and the file to look at."""
    png = base64.b64encode(cv2.imencode(".png", np.full((8, 8), 90, np.uint8))[1].tobytes()).decode()
    shown = (Shown("pits/a.png", "pits", "dents", 0.83, png), Shown("dents/b.png", "dents", "dents", 0.99, png))
    report.write(replace(record, shown=shown, wrong=7), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "1 of 7 misclassified pictures" in text
    assert "`pits/a.png`" in text
    assert b"dents, 83%" in (tmp_path / "figures" / "errors.svg").read_bytes()
    assert (tmp_path / "figures" / "samples.svg").exists()


def curve(losses, accuracies, held_out=60):
    """A stage with these held-out losses and accuracies."""
    epochs = (
        Epoch(n, 1.0 / n, round(held_out * right), held_out, loss)
        for n, (loss, right) in enumerate(zip(losses, accuracies, strict=True), 1)
    )
    return Curve.of("finetune", list(epochs), 10.0)


FALLING, FLAT = [1.0 / n for n in range(1, 21)], [0.9] * 20
RISING = [1.0 / n for n in range(1, 11)] + [0.1 + 0.04 * n for n in range(10)]
UNFINISHED = [0.03 * n for n in range(1, 21)]


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (
            curve(RISING, FLAT),
            "**It overfits:** in the stage finetune the loss on 60 held-out tiles was lowest in epoch",
        ),
        (curve(FALLING, UNFINISHED), "**It had not finished to learn:**"),
        (curve(FALLING, FLAT), None),
        (curve(RISING, FLAT, held_out=8), None),
        (curve([float("nan")] * 20, FLAT), None),
    ],
)
def test_verdict_speaks_of_the_learning_curve_only_where_it_shows_something(record, shown, words):
    """A rising held-out loss, an accuracy that still rises; silence for a sound curve and for a few held-out tiles."""
    found = " ".join(verdict(replace(record, curves=(shown,))))
    assert (words in found) if words else ("overfits" not in found and "finished" not in found)


def test_learning_curve_has_both_losses_and_the_accuracy_with_units_and_n(record):
    """A row for each stage; the held-out loss is drawn where it is known."""
    figure = plots.training_figure((curve(RISING, FLAT), record.curves[0]))
    losses, accuracy, without, _ = figure.axes
    assert [line.get_label() for line in losses.get_lines()] == ["training", "held out"]
    assert (losses.get_xlabel(), losses.get_ylabel()) == ("epoch", "loss (nats)")
    assert accuracy.get_ylabel() == "accuracy (%)"
    assert accuracy.get_title(loc="left") == "held out, n = 60; at the end 90.0 %"
    assert len(without.get_lines()) == 1
