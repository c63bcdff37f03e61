"""defectd: an inspection daemon for steel strip and similar surfaces."""

__version__ = "0.2.0"
