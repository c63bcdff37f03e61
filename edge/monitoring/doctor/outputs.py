"""Outputs and page of a running daemon: whether each one runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from edge.control.unix_socket import ask
from edge.errors import CommandError
from edge.monitoring.doctor.finding import Finding

ASK_S: Final = 3.0


def findings(state_dir: Path) -> Iterator[Finding]:
    """One for each output, and one for the page that the daemon starts.  Nothing where no daemon runs."""
    try:
        state = ask(state_dir, "state", ASK_S)
    except (CommandError, OSError) as error:
        remedy = "Look into its log, and run `defectd doctor --live`"
        yield Finding("outputs", "warning", f"the daemon gives no state: {error}", remedy)
        return
    for name, output in ((state or {}).get("outputs") or {}).items():
        yield _examined(name, output)
    page = (state or {}).get("page")
    if page is not None:
        yield _page(page)


def _examined(name: str, output: Mapping[str, Any]) -> Finding:
    about, restarts, error = f"output {name}", output.get("restarts") or 0, output.get("last_error")
    reason = f": {error}" if error else ""
    if output.get("state") != "running":
        says = f"it has been restarting since {output.get('since')}, {restarts} times so far{reason}"
        return Finding(about, "fail", says, "Correct the cause; its events wait in the outbox, and inspection goes on")
    if restarts:
        return Finding(about, "warning", f"it runs, after {restarts} restarts{reason}", "Look into the log of defectd")
    return Finding(about, "ok", "it runs")


def _page(page: Mapping[str, Any]) -> Finding:
    error = page.get("last_error")
    if page.get("link"):
        return Finding("page", "ok", f"it is served on {page['link']}")
    if page.get("state") == "starting":
        return Finding("page", "ok", "it is just starting")
    remedy = "Correct the cause, or set web.listen to another address or to null; inspection goes on"
    return Finding("page", "fail", f"it is not served: {error or 'no sign of life'}", remedy)
