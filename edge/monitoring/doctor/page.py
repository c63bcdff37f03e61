"""The page: whether anybody can open it where it is open to the network, and how long its certificate is valid."""

from __future__ import annotations

from collections.abc import Iterator

from edge import config
from edge.host.clock import Clock
from edge.monitoring.doctor import certificates
from edge.monitoring.doctor.finding import Finding


def findings(settings: config.Config, clock: Clock) -> Iterator[Finding]:
    """Nothing for a page that only this machine can open."""
    ours = settings.web
    if ours.address is None:
        return
    if ours.tls is not None:
        remedy = "Replace the file, and restart the page"
        yield certificates.of_file("page certificate", "web.tls.certificate", ours.tls.certificate, clock, remedy)
    if (ours.tls is not None or ours.behind_proxy) and not settings.state.page_users.exists():
        says = "it is open to the network and has no users: nobody there sees anything"
        yield Finding("page users", "warning", says, "Add one: defectd web user add NAME --role engineer")
