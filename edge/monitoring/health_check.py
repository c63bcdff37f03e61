"""Whether a daemon runs and its loops move: for a container's health check, a load balancer, or a person.

Light on purpose: the container engine runs this every 30 s, on small machines too, so neither OpenCV nor the network
runtime is loaded.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any, Final

from edge import config
from edge.host.clock import NS_PER_S, Clock
from edge.host.watchdog import LIMIT_S, Loop
from edge.monitoring.route import Request, Response

ANSWER_S: Final = 5.0
MAX_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Health:
    """alive: every loop that can be examined moves.  says: that, as a sentence."""

    alive: bool
    says: str


def health_of(ages_s: Mapping[str, float]) -> Health:
    """The rule.  ages_s: seconds since each required loop last came round."""
    name, age_s = max(ages_s.items(), key=lambda loop: loop[1], default=("", 0.0))
    if age_s > LIMIT_S:
        return Health(alive=False, says=f"the loop {name} has not moved for {age_s:.0f} s")
    return Health(alive=True, says=f"{len(ages_s)} loops move")


class HealthPage:
    """The handler of the page `/healthz`: status 200 while the loops move, 503 otherwise."""

    def __init__(self, loops: Callable[[], Mapping[str, Loop]], clock: Clock) -> None:
        """loops: the threads without which the node does not inspect."""
        self._loops = loops
        self._clock = clock

    def __call__(self, _request: Request) -> Response:
        now_ns = self._clock.monotonic_ns()
        ages_s = {name: max(0.0, (now_ns - loop.beat_ns) / NS_PER_S) for name, loop in self._loops().items()}
        health = health_of(ages_s)
        status = HTTPStatus.OK if health.alive else HTTPStatus.SERVICE_UNAVAILABLE
        return Response.json(status, {**asdict(health), "loops": {name: round(age, 3) for name, age in ages_s.items()}})


def check(settings: config.Config) -> Health:
    """The health of the daemon that has this state directory.  Cameras and the broker may be away meanwhile."""
    if not settings.state.is_locked():
        return Health(alive=False, says=f"no daemon runs on {settings.state_dir}")
    if settings.metrics.address is None:
        return Health(alive=True, says="the daemon runs; metrics.listen is null, so its loops cannot be examined")
    try:
        page: Any = json.loads(fetch(settings.metrics, "/healthz"))
        return Health(alive=bool(page["alive"]), says=str(page["says"]))
    except OSError as error:
        return Health(alive=False, says=f"the daemon runs, but does not answer on metrics.listen: {error}")
    except (ValueError, KeyError, TypeError):
        return Health(alive=False, says=f"another program answers on metrics.listen, {settings.metrics.listen}")


def fetch(settings: config.Metrics, path: str) -> bytes:
    """A page of the daemon on this machine, its first 4 MiB, whatever its status.

    Raises OSError when nothing answers, and ValueError when the daemon has no HTTP server.
    """
    if settings.address is None:
        raise ValueError("metrics.listen is null")
    host, port = settings.address
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (asked, not listened on)
    where = f"[{host}]" if ":" in host else host
    directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        answer = directly.open(f"http://{where}:{port}{path}", timeout=ANSWER_S)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        page: bytes = answer.read(MAX_BYTES)
    return page
