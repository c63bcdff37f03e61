"""The diagrams of the documentation, as pictures: a site without a network cannot load Mermaid.

A hook of MkDocs puts the pictures in place of the sources in the pages. `make pictures-diagrams` draws them after a
change. The name of a picture is the hash of its source, so a picture that was not drawn again is missing, and the build
fails.
"""

from __future__ import annotations

import hashlib
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

log = logging.getLogger("mkdocs.hooks")

DOCS: Final = Path(__file__).parents[2] / "docs"
PICTURES: Final = DOCS / "diagrams"
THEMES: Final = {"light": "neutral", "dark": "dark"}
FENCE: Final = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
DRAW: Final = """async ([source, theme]) => {
  const fontFamily = "DejaVu Sans, Verdana, sans-serif";
  mermaid.initialize({startOnLoad: false, theme, deterministicIds: true, fontFamily});
  const holder = document.createElement("div");
  holder.innerHTML = (await mermaid.render("diagram", source)).svg;
  const drawn = holder.firstElementChild, [, , width, height] = drawn.getAttribute("viewBox").split(" ");
  drawn.setAttribute("width", width);
  drawn.setAttribute("height", height);
  return new XMLSerializer().serializeToString(drawn);
}"""


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """MkDocs calls it with the source of each page."""
    folder = "../" * page.file.src_uri.count("/") + PICTURES.name

    def pictures(found: re.Match[str]) -> str:
        heading = re.findall(r"(?m)^#+ (.*)$", markdown[: found.start()])[-1]
        shown = []
        for theme in THEMES:
            path = picture(found[1], theme)
            if not path.exists():
                log.warning("%s: the diagram of %r was not drawn: make pictures-diagrams", page.file.src_uri, heading)
            shown.append(f"![Diagram: {heading}]({folder}/{path.name}#only-{theme})")
        return "\n".join(shown)

    return FENCE.sub(pictures, markdown)


def picture(source: str, theme: str) -> Path:
    """Where the picture of a diagram lies."""
    return PICTURES / f"{hashlib.sha256(source.encode()).hexdigest()[:12]}-{theme}.svg"


def sources() -> Iterator[str]:
    """All diagrams of the documentation."""
    for page in sorted(DOCS.rglob("*.md")):
        yield from FENCE.findall(page.read_text("utf-8"))


def main(script: str) -> None:
    """Draw all diagrams in a browser.  script: path of mermaid.min.js."""
    from playwright.sync_api import sync_playwright

    PICTURES.mkdir(exist_ok=True)
    wanted = {picture(source, theme): (source, name) for source in sources() for theme, name in THEMES.items()}
    for old in set(PICTURES.glob("*.svg")) - set(wanted):
        old.unlink()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for path, given in wanted.items():
            page = browser.new_page()
            page.add_script_tag(path=script)
            path.write_text(page.evaluate(DRAW, given) + "\n", "utf-8")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
