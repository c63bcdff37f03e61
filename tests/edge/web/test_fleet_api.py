"""The API of the fleet, by calling its handler."""

import asyncio
import json
from types import SimpleNamespace

import jsonschema
import pytest
from fakes.clock import FakeClock
from fakes.page import page_settings

from edge.delivery.fleet import Fleet
from edge.web import openapi
from edge.web.api import fleet
from edge.web.fleet_watch import FRESH_S, FleetWatch
from edge.web.refusal import Refusal
from edge.web.route import Request


class Children:
    """Answers as the command does."""

    def __init__(self):
        self.ran = 0
        self.fails = False

    async def run_to_end(self, arguments, *, label, by, time_s, is_brief):
        self.ran += 1
        assert (arguments[0], arguments[-1], is_brief) == ("fleet", "--json", True)
        await asyncio.sleep(0)
        if self.fails:
            raise Refusal(409, "failed", "the broker was not reached")
        found = Fleet("defectd")
        found.take("defectd/line4/status", b'{"online": false, "reason": "lost"}')
        return SimpleNamespace(id=str(self.ran), result=found.as_json(0))


@pytest.fixture
def page(tmp_path):
    clock = FakeClock()
    return SimpleNamespace(settings=page_settings(tmp_path), clock=clock, fleet=FleetWatch(clock), children=Children())


async def looked(page):
    answer = json.loads((await fleet.fleet(page, Request("/"))).body)
    jsonschema.validate(answer, openapi.schema("api-fleet-1"))
    return answer


def test_broker_is_asked_once_for_all_who_look(page):
    """And again after some seconds; the job is not kept, so that others are."""

    async def scene():
        found = await asyncio.gather(*(looked(page) for _ in range(5)))
        assert [one["node"] for one in found[0]["nodes"]] == ["line4"]
        assert page.children.ran == 1
        page.clock.advance(FRESH_S + 1)
        await looked(page)
        assert page.children.ran == 2

    asyncio.run(scene())


def test_what_was_known_stays_when_the_broker_cannot_be_asked(page):
    """With the reason; one failure is not repeated for each who looks."""

    async def scene():
        first = await looked(page)
        page.clock.advance(FRESH_S + 1)
        page.children.fails = True
        for _ in range(3):
            later = await looked(page)
        assert (later["nodes"], later["asked"]) == (first["nodes"], first["asked"])
        assert (later["problem"], page.children.ran) == ("the broker was not reached", 2)

    asyncio.run(scene())


def test_node_without_a_configuration_file_is_refused(page, tmp_path):
    """There is no broker to ask."""
    page.settings = page_settings(tmp_path, config_path=None)
    with pytest.raises(Refusal, match="without a configuration"):
        asyncio.run(looked(page))
