"""defectd: an inspection daemon for steel strip and similar surfaces."""

import os

__version__ = "0.2.0"

# onnxruntime 1.29 and newer has telemetry: it writes to the home folder and looks up a host of its maker. It reads
# this switch while it is imported, and every module that imports it is imported after this one.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
