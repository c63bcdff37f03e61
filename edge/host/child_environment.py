"""What a child process may see of the daemon's environment: what programs and libraries read, and no password."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

_NEEDED: Final = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_[A-Z]+|TZ|TMPDIR|TERM|VIRTUAL_ENV|XDG_RUNTIME_DIR"
    r"|(PYTHON|LD_|OPENCV_|OPENBLAS_|OMP_|MALLOC_|GLIBC_|SSL_CERT_|COVERAGE_|SYSTEMD_)\w*|(https?|all|no)_proxy",
    re.IGNORECASE,
)
"""A list of what is passed on, not of what is kept back: any name may be one of a password, as in `${NAME}`."""


def child_environment(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that a child process starts with."""
    return {name: value for name, value in variables.items() if _NEEDED.fullmatch(name)}
