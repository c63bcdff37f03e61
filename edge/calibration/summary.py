"""The summary page of a calibration: one file of HTML with its pictures inside, for a browser or an e-mail."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

State = Literal["done", "skipped", "refused"]
WORDS: Final[Mapping[State, str]] = {"done": "✓ measured", "skipped": "- skipped", "refused": "✗ refused"}
CAPTIONS: Final = {
    "roi": "The region that is inspected",
    "tiles": "Tiles: each must show about as much steel as the generated ones above them",
    "flatfield": "The light: as it is, the gain, and with the gain",
    "scale": "Millimetres",
    "normal": "How rare each score of good surface is",
    "normal-tiles": "The most unusual tiles: all of them must be good surface",
    "normal-map": "How close good surface came to the threshold, by place",
    "latency": "Time for a frame, by the settings of the network",
}


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step of the calibration.  says: sentences.  pictures: PNG, by the word of `CAPTIONS`."""

    name: str
    title: str
    state: State
    says: tuple[str, ...]
    pictures: Mapping[str, bytes] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "state": self.state, "says": list(self.says)}


def page(camera: str, heading: str, facts: Mapping[str, str], steps: Sequence[StepResult]) -> str:
    """The whole page.  heading: the verdict in a sentence.  facts: name and value, beside it."""
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in facts.items())
    parts = "".join(_section(number, step) for number, step in enumerate(steps, 1))
    title = f"Calibration of camera {html.escape(camera)}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        f"<body><main><h1>{title}</h1><p class=verdict>{html.escape(heading)}</p><dl>{rows}</dl>\n{parts}</main>"
        "</body></html>\n"
    )


def _section(number: int, step: StepResult) -> str:
    says = "".join(f"<li>{html.escape(sentence.strip())}</li>" for sentence in step.says)
    pictures = "".join(_figure(name, data) for name, data in step.pictures.items())
    return (
        f'<section><h2><span class="number">{number}</span> {html.escape(step.title)} '
        f'<span class="{step.state}">{WORDS[step.state]}</span></h2><ul>{says}</ul>{pictures}</section>\n'
    )


def _figure(name: str, data: bytes) -> str:
    caption = html.escape(CAPTIONS.get(name, name))
    coded = base64.b64encode(data).decode()
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{coded}"><figcaption>{caption}</figcaption></figure>'
    )


_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b2126; --soft: #5b6770; --line: #d6dce0; --ground: #f6f8f9; --card: #fff;
  --good: #1c7a43; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebee; --soft: #9aa7b0; --line: #323b42; --ground: #12171b;
  --card: #1a2126; --good: #6fd39a; --bad: #ff8a80; } }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.6rem; margin: 0; }
.verdict { font-size: 1.1rem; margin: .3rem 0 1rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; color: var(--soft); margin: 0 0 1.5rem; }
dd { margin: 0; color: var(--ink); overflow-wrap: anywhere; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem 1.25rem;
  margin-bottom: 1rem; }
h2 { font-size: 1.1rem; margin: 0 0 .5rem; display: flex; gap: .6rem; align-items: baseline; }
h2 span:last-child { margin-left: auto; font-size: .9rem; font-weight: 600; }
.number { color: var(--soft); } .done { color: var(--good); } .refused { color: var(--bad); }
.skipped { color: var(--soft); }
ul { margin: 0; padding-left: 1.2rem; overflow-wrap: anywhere; }
figure { margin: 1rem 0 0; } img { max-width: 100%; height: auto; border-radius: 4px; display: block; }
figcaption { color: var(--soft); font-size: .9rem; }
"""
