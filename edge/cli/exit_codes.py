"""How a command ends: exit codes, and the reason in one message."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from edge.cli.progress import note
from edge.errors import BundleError, ConfigError, DefectdError
from edge.host.rights import why

EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 78
"""sysexits.h EX_CONFIG: systemd does not restart on it."""

P = ParamSpec("P")
R = TypeVar("R")


def exits_with_reason(command: Callable[P, R]) -> Callable[P, R]:
    """Errors raised on purpose end the command with one clear message and the documented exit code, not a traceback."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (ConfigError, BundleError) as error:
            note(f"defectd: {error}")
            sys.exit(EXIT_CONFIG)
        except DefectdError as error:
            note(f"defectd: {error}")
            sys.exit(EXIT_FAILED)
        except BrokenPipeError:
            sys.stderr.close()  # the reader (head, less) has gone; Python would print an error at exit
            sys.exit(0)
        except OSError as error:  # a file of the state directory, mostly: one that this user may not see
            place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
            note(f"defectd: {place}{why(error)}")
            sys.exit(EXIT_FAILED)

    return wrapped
