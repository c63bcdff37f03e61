"""The built documentation as a reader clicks through it: the content of its pages, their headings and their links."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

HEADINGS = {"h1", "h2", "h3", "h4"}
ORIGIN = "https://site.example/"


class Article(HTMLParser):
    """The content of one page, without the navigation around it.  address: below the site, such as `scada/`."""

    def __init__(self, address: str, html: str) -> None:
        super().__init__()
        self.headings: dict[str, str] = {}
        """Text -> anchor."""
        self.links: dict[str, str] = {}
        """Text -> address of a page of this site, with its anchor."""
        self._address = address
        self._depth = 0
        self._heading: str | None = None
        self._link: str | None = None
        self._texts: dict[str, list[str]] = {"heading": [], "link": []}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._depth += tag == "article"
        if not self._depth:
            return
        if tag in HEADINGS:
            self._heading, self._texts["heading"] = given.get("id"), []
        if tag == "a" and "headerlink" not in (given.get("class") or ""):
            self._link, self._texts["link"] = given.get("href"), []
        elif tag == "a":
            self._heading = self._finished_heading()

    def handle_data(self, data: str) -> None:
        for name, open_now in (("heading", self._heading), ("link", self._link)):
            if open_now is not None:
                self._texts[name].append(data)

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag == "article"
        if tag in HEADINGS:
            self._heading = self._finished_heading()
        if tag == "a" and self._link is not None:
            target = urlsplit(urljoin(ORIGIN + self._address, self._link))
            if f"{target.scheme}://{target.netloc}/" == ORIGIN:
                anchor = f"#{target.fragment}" if target.fragment else ""
                self.links["".join(self._texts["link"])] = unquote(target.path.removeprefix("/")) + anchor
            self._link = None

    def _finished_heading(self) -> None:
        """A heading ends before the sign that links to itself."""
        if self._heading is not None:
            self.headings["".join(self._texts["heading"]).strip()] = self._heading


def articles(site: Path) -> dict[str, Article]:
    """All pages of a built site, by their addresses."""
    found = {}
    for path in sorted(site.rglob("index.html")):
        folder = path.parent.relative_to(site).as_posix()
        address = "" if folder == "." else f"{folder}/"
        found[address] = Article(address, path.read_text("utf-8"))
    return found


def clicks(pages: dict[str, Article]) -> dict[str, int]:
    """How many links in the content of pages lead from the front page to each page."""
    distance, layer = {"": 0}, [""]
    while layer:
        following = []
        for address in layer:
            for link in pages[address].links.values():
                page = link.partition("#")[0]
                if page in pages and page not in distance:
                    distance[page] = distance[address] + 1
                    following.append(page)
        layer = following
    return distance
