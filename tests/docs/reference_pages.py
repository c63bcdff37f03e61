"""Writes the reference pages of the documentation from the code: `make docs`.

A test compares the pages with the code, so that they cannot drift.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import api_page  # noqa: E402
import click  # noqa: E402

from edge import cli  # noqa: E402
from edge.event import EVENT_TYPES  # noqa: E402
from trainer.cli.commands import main as train  # noqa: E402

DOCS: Final = ROOT / "docs"
COLLECTORS: Final = ROOT / "edge" / "monitoring" / "collectors"
NOTE: Final = "<!-- Written by tests/docs/reference_pages.py from the code: do not edit. -->\n"

WHEN: Final = {
    "defect.opened": "A defect is confirmed.",
    "defect.closed": "A defect has left the picture, or is no longer seen; the final class, extent and length.",
    "coverage.gap": "Frames or time were not inspected; cause, time range, meters.",
    "camera.lost": "A camera delivers no pictures; the reason.",
    "camera.restored": "A lost camera delivers pictures again.",
    "camera.ended": "A recording came to its end.",
    "camera.paused": "A command stopped the inspection of a camera.",
    "camera.resumed": "The inspection of a paused camera goes on.",
    "coil.started": "A coil starts at 0 m.",
    "coil.ended": "A coil has ended; its length.",
    "coil.graded": "A coil has ended and got its grade, with the reasons.",
    "coil.released": "A person has released a coil, with a name.",
    "roll_mark.suspected": "Defects repeat as a roll would mark them; period, place across, members, rolls that fit.",
    "width.out": "The strip is wider or narrower than `strip_width` allows.",
    "width.restored": "The width is within its limits again.",
    "operator.acted": "A person changed something through the page; who, what, before and after.",
    "speed.stale": "No usable speed arrives: positions are unknown.",
    "speed.restored": "Usable speeds arrive again.",
    "image.bad": "Three pictures in a row do not show the surface; the fault.",
    "image.restored": "Three pictures in a row show the surface again.",
    "model.changed": "Another model decides from now on.",
    "model.rolled_back": "A new model failed as a canary: the previous one decides again.",
    "model.refused": "A model was not activated; the reason.",
    "thresholds.changed": "A command changed thresholds of a camera.",
    "calibration.refused": "A calibration does not fit the camera's pictures; the part and the remedy.",
    "model.out_of_domain": "A camera shows steel unlike that of the model's training; its defects are `unknown`.",
    "model.in_domain": "Defects have the names of classes again.",
    "camera.drifted": "The pictures no longer look like those of the calibration.",
    "camera.drift_cleared": "The pictures look like those of the calibration again.",
    "config.changed": "A reload changed the configuration.",
    "config.refused": "A reload changed nothing; the reason.",
    "events.dropped": "Events are lost; their number and range.",
    "events.refused": "The broker refused events; they are dead letters.",
    "node.started": "The daemon has started.",
    "node.stopped": "The daemon stops.",
}
"""One sentence for each event type.  A test compares the keys with `EVENT_TYPES`."""

DETAILS: Final = {"events.dropped": "loss", "events.refused": "refusals", "operator.acted": "act"}
"""Event type -> the definition of its `detail` in the schema."""


def configuration() -> str:
    """Every key with its default and its comment: `config.yaml`, by section."""
    head, *sections = re.split(r"\n\n(?=(?:# [^\n]*\n)*[a-z_]+:)", (ROOT / "config.yaml").read_text("utf-8"))
    intro = re.sub(r"(?m)^# ?", "", head)
    text = f"# Configuration\n\n{NOTE}\n{intro.split(chr(10), 1)[1].strip()}\n"
    for section in sections:
        keys = re.findall(r"(?m)^([a-z_]+):", section)
        text += f"\n## {', '.join(keys)}\n\n```yaml\n{section.rstrip()}\n```\n"
    return text


def events() -> str:
    """Event types with severity, then the fields of the schema."""
    schema = json.loads((ROOT / "edge/schema/event-1.json").read_text("utf-8"))
    text = f"# Events\n\n{NOTE}\n{schema['description']} The JSON Schema is `edge/schema/event-1.json`.\n\n"
    text += "## Types\n\nA full outbox drops events of severity `info` first.\n\n"
    text += "| type | severity | when |\n|---|---|---|\n"
    text += "".join(f"| `{name}` | {severity} | {WHEN[name]} |\n" for name, severity in EVENT_TYPES.items())
    inner = schema["properties"] | schema["$defs"]
    parts = {"Fields": schema} | {
        f"Fields of `{name}`": inner[name] for name in ("defect", "frame", "latency_ms", "model")
    }
    parts |= {f"Fields of `detail` in `{kind}`": inner[name] for kind, name in DETAILS.items()}
    for title, part in parts.items():
        text += f"\n## {title}\n\n| field | type | meaning |\n|---|---|---|\n"
        text += "".join(
            f"| `{name}` | {api_page.type_of(f)} | {f.get('description', '')} |\n"
            for name, f in part["properties"].items()
        )
    return text


def metrics() -> str:
    """Every metric that `/metrics` can show, by concern."""
    text = f"# Metrics\n\n{NOTE}\n`http://127.0.0.1:9464/metrics` (`metrics.listen`).\n"
    for path in sorted(COLLECTORS.glob("*.py")):
        rows = sorted(_families(path))
        if rows:
            text += f"\n## {path.stem}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n"
            text += "".join(f"| `{name}` | {kind} | {labels} | {meaning} |\n" for name, kind, labels, meaning in rows)
    return text


def _families(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """Name, type, labels and meaning of the metrics that a module makes."""
    names = vars(importlib.import_module(f"edge.monitoring.collectors.{path.stem}"))
    tree = ast.parse(path.read_text("utf-8"))
    lists = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.List)
        and all(isinstance(item, ast.Constant) for item in node.value.elts)
    }

    def value(node: ast.expr) -> Any:
        return lists.get(node.id, names.get(node.id)) if isinstance(node, ast.Name) else ast.literal_eval(node)

    for call in ast.walk(tree):
        made = getattr(getattr(call, "func", None), "id", "")
        if isinstance(call, ast.Call) and made.endswith("MetricFamily"):
            kind = made.removesuffix("MetricFamily").lower()
            metric, meaning = (value(argument) for argument in call.args[:2])
            labels = next((value(word.value) for word in call.keywords if word.arg == "labels"), [])
            yield f"{metric}_total" if kind == "counter" else metric, kind, ", ".join(labels), meaning


def commands() -> str:
    """Every command with its usage, help and options."""
    text = f"# Command line\n\n{NOTE}\n"
    text += "Exit codes: 0 done, 1 failed, 2 usage, 78 bad configuration or model (systemd does not restart on it).\n"
    for name, command in (("defectd", cli.main), ("defectd-train", train)):
        for words, found in _walk(command, (name,)):
            text += f"\n{'#' * min(2 + (len(words) > 2), 3)} {' '.join(words)}\n\n```text\n{_help(found, words)}\n```\n"
    return text


def _walk(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            if not inner.hidden:
                yield from _walk(inner, (*words, name))


def _help(command: click.Command, words: tuple[str, ...]) -> str:
    context = click.Context(
        command,
        info_name=" ".join(words),
        terminal_width=96,
        max_content_width=96,
        help_option_names=["-h", "--help"],
    )
    command._help_option = None  # click keeps the option of the first call, which may have been a command on its own
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


def api() -> str:
    """Every route of the page with its role, its parameters and the fields of its answer."""
    return api_page.text(NOTE)


def decisions() -> str:
    """All decisions with their titles."""
    text = f"# Decisions\n\n{NOTE}\nWhat was decided, why, and what was tried instead; ten lines each.\n\n"
    for path in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        title = path.read_text("utf-8").splitlines()[0].removeprefix("# ")
        text += f"- [{title}]({path.name})\n"
    return text


WRITERS: Final = {
    "reference/configuration.md": configuration,
    "reference/events.md": events,
    "reference/metrics.md": metrics,
    "reference/commands.md": commands,
    "reference/api.md": api,
    "decisions/index.md": decisions,
}


def main() -> None:
    (DOCS / "reference").mkdir(exist_ok=True)
    for name, write in WRITERS.items():
        (DOCS / name).write_text(write(), "utf-8")


if __name__ == "__main__":
    main()
