"""What reading a zip archive may raise."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from typing import Final

ZIP_ERRORS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,  # an unknown compression
    RuntimeError,  # an encrypted member
    ValueError,  # a name that is not the text that its flag promises
    ArithmeticError,
    LookupError,
)
"""What zipfile raises for a damaged or hostile file."""
