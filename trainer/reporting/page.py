"""A page of headings, text, tables and figures: as Markdown, or as one self-contained HTML file."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph, with the Markdown marks for `code` and **strong** text."""

    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list; the items are marked up like Text."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Code:
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """caption: what is counted, on which data.  words: number of text columns; the columns after them are numbers."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


@dataclass(frozen=True, slots=True)
class Figure:
    """name: file name without suffix.  caption: as for a table, also the alternative text.  draw: returns SVG; slow."""

    name: str
    caption: str
    draw: Callable[[], bytes]


Block = Heading | Text | Items | Code | Table | Figure


def to_markdown(blocks: Sequence[Block], figures: str = "figures") -> str:
    """figures: the folder of the SVG files, beside the page."""
    return "\n\n".join(_markdown(block, figures) for block in blocks) + "\n"


def _markdown(block: Block, figures: str) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Text):
        return block.text
    if isinstance(block, Items):
        return "\n".join(f"- {item}" for item in block.items)
    if isinstance(block, Code):
        return "\n".join(f"    {line}" for line in block.text.splitlines())
    if isinstance(block, Figure):
        return f"![{block.caption}]({figures}/{block.name}.svg)"
    marks = tuple("---" if place < block.words else "---:" for place in range(len(block.head)))
    lines = [block.head, marks, *block.rows]
    return "\n".join([*(f"| {' | '.join(_cell(c) for c in row)} |" for row in lines), "", block.caption])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


STYLE: Final = """
body{font:16px/1.55 system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;color:#1c2430;background:#fff;
max-width:60rem;margin:2.5rem auto;padding:0 1.25rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .5rem}
h2{font-size:1.3rem;margin:2.75rem 0 .75rem;padding-top:.9rem;border-top:1px solid #dde2e9}
h3{font-size:1.05rem;margin:1.75rem 0 .5rem}
p,ul{max-width:46rem}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;margin:1rem 0 .25rem}
th{text-align:right;font-weight:600;border-bottom:2px solid #b9c2ce;vertical-align:bottom}
td{text-align:right;border-bottom:1px solid #e6eaef;vertical-align:top}
th,td{padding:.35rem .7rem}
.word{text-align:left}
th:first-child,td:first-child{padding-left:0}
tbody tr:hover{background:#f5f7fa}
caption{caption-side:bottom}
caption,figcaption{text-align:left;font-size:.82rem;color:#5a6675;padding:.4rem 0 0;max-width:46rem}
figure{margin:1.5rem 0}
img{max-width:100%;height:auto}
pre,code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.85em;background:#f3f5f8}
code{padding:.1em .3em;border-radius:3px;overflow-wrap:anywhere}
pre{padding:.8rem 1rem;overflow-x:auto;border-radius:4px}
.wide{overflow-x:auto}
@media print{body{margin:0;max-width:none}h2,table,figure{break-inside:avoid}}
"""


def to_html(title: str, blocks: Sequence[Block], drawn: Mapping[str, bytes]) -> str:
    """Style and figures are inside the file; it has no script and fetches nothing.  drawn: name of a figure -> SVG."""
    body = "\n".join(_html(block, drawn) for block in blocks)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{html.escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _html(block: Block, drawn: Mapping[str, bytes]) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{_marked(block.text)}</h{block.level}>"
    if isinstance(block, Text):
        return f"<p>{_marked(block.text)}</p>"
    if isinstance(block, Items):
        return f"<ul>{''.join(f'<li>{_marked(item)}</li>' for item in block.items)}</ul>"
    if isinstance(block, Code):
        return f"<pre>{html.escape(block.text)}</pre>"
    if isinstance(block, Figure):
        packed, caption = base64.b64encode(drawn[block.name]).decode(), html.escape(block.caption)
        return (
            f'<figure><img src="data:image/svg+xml;base64,{packed}" alt="{caption}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    head, *rows = (
        _row(cells, block.words, tag) for cells, tag in [(block.head, "th"), *((r, "td") for r in block.rows)]
    )
    return (
        f'<div class="wide"><table><caption>{_marked(block.caption)}</caption>'
        f"<thead>{head}</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(cells: Sequence[str], words: int, tag: str) -> str:
    kinds = (' class="word"' if place < words else "" for place in range(len(cells)))
    return f"<tr>{''.join(f'<{tag}{kind}>{_marked(c)}</{tag}>' for c, kind in zip(cells, kinds, strict=True))}</tr>"


def _marked(text: str) -> str:
    safe = html.escape(text)
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", safe)
