"""The nodes at the broker, for who looks at them: asked for by `defectd fleet`, and kept for some seconds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from edge.host.clock import NS_PER_S, Clock, stamp
from edge.web.children import Children
from edge.web.refusal import Refusal

FRESH_S: Final = 20.0
ASK_S: Final = 40.0


class FleetWatch:
    """Owned by the loop of the page process.  Nothing is asked while nobody looks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turn = asyncio.Lock()
        self._found: dict[str, Any] | None = None
        self._asked_ns = 0
        self._asked = ""
        """The same as a stamp."""
        self._problem: str | None = None

    async def look(self, children: Children, config_path: Path) -> dict[str, Any]:
        """The nodes, when they were asked for, and why there is nothing newer.  Who comes meanwhile waits."""
        async with self._turn:
            now_ns = self._clock.monotonic_ns()
            if not self._asked_ns or now_ns - self._asked_ns > FRESH_S * NS_PER_S:
                await self._ask(children, config_path)
                self._asked_ns = self._clock.monotonic_ns()
        nodes = [] if self._found is None else self._found["nodes"]
        return {"nodes": nodes, "asked": self._asked or None, "problem": self._problem}

    async def _ask(self, children: Children, config_path: Path) -> None:
        command = ("fleet", "-c", str(config_path), "--json")
        try:
            job = await children.run_to_end(command, label="Nodes at the broker", by="", time_s=ASK_S, is_brief=True)
        except Refusal as refused:
            self._problem = str(refused)
            return
        found = job.result
        if not isinstance(found, dict) or not isinstance(found.get("nodes"), list):
            self._problem = "the answer of the broker cannot be read"
            return
        self._found, self._problem, self._asked = found, None, stamp(self._clock.wall_ns())
