"""The fonts of PDF and PNG files, which come with the package: Latin, Greek, Cyrillic, and the Chinese of GB 2312.

A character that no font has is shown as `?`, and `missing` has it, so that the report can say so. `fonts/README.md`
says where they come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from edge.errors import ReportError

FOLDER: Final = Path(__file__).with_name("fonts")
SANS: Final = "report-sans"
BOLD: Final = "report-sans-bold"
HAN: Final = "report-han"
FILES: Final = {SANS: "sans.ttf", BOLD: "sans-bold.ttf", HAN: "han.ttf"}
REMEDY: Final = "Install it with: pip install 'defectd[report]'; .html, .csv and .json need nothing more"
NO_GLYPH: Final = "?"
MAX_LISTED: Final = 12


class Fonts:
    """Splits text by the font that has its characters, and measures it.  Owned by one thread."""

    def __init__(self) -> None:
        """Raises ReportError where reportlab is not installed."""
        try:
            from reportlab.pdfbase import pdfmetrics  # noqa: PLC0415 (of the extra `report`)
            from reportlab.pdfbase.ttfonts import TTFError, TTFont  # noqa: PLC0415
        except ImportError as error:
            raise ReportError(f"a PDF or PNG needs reportlab, which is not here ({error}). {REMEDY}") from None
        self._fonts: dict[str, Any] = {}
        try:
            for name, file in FILES.items():
                self._fonts[name] = font = TTFont(name, str(FOLDER / file))
                pdfmetrics.registerFont(font)
        except (OSError, TTFError) as error:
            raise ReportError(f"a font of the package cannot be used: {error}") from None
        self.missing: set[str] = set()
        """Characters that no font has."""

    def runs(self, text: str, *, is_bold: bool = False) -> Iterator[tuple[str, str]]:
        """(font, part of the text), in the order of the text."""
        first, part = "", ""
        for letter in text:
            font, shown = self._font_of(letter, BOLD if is_bold else SANS)
            if font != first and part:
                yield first, part
                part = ""
            first = font
            part += shown
        if part:
            yield first, part

    def width(self, text: str, size: float, *, is_bold: bool = False) -> float:
        """Width in points."""
        return sum(float(self._fonts[font].stringWidth(part, size)) for font, part in self.runs(text, is_bold=is_bold))

    def remarks(self) -> list[str]:
        """Says which characters could not be shown so far."""
        if not self.missing:
            return []
        listed = ", ".join(f"U+{ord(letter):04X}" for letter in sorted(self.missing)[:MAX_LISTED])
        more = f" and {len(self.missing) - MAX_LISTED} more" if len(self.missing) > MAX_LISTED else ""
        return [f"Shown as ? because the fonts of this file lack them: {listed}{more}; the HTML file shows them."]

    def _font_of(self, letter: str, usual: str) -> tuple[str, str]:
        code = ord(letter)
        for name in (usual, HAN):
            if code in self._fonts[name].face.charToGlyph:
                return name, letter
        if letter.isspace():
            return usual, " "
        self.missing.add(letter)
        return usual, NO_GLYPH
