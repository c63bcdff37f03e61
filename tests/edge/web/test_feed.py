"""The page's end of the feed: what it wants, keeps and forgets, and how it comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fakes.page_feed import FakeFeed, frame_of, state_of
from fakes.waiting import until

from edge.delivery.page_life import PageSign
from edge.host.backoff import Backoff
from edge.host.clock import SystemClock
from edge.web.feed import MAX_EVENTS, MAX_HEADER_CHARACTERS, Feed, frame_text

SIGN = PageSign(7, "http://127.0.0.1:8480/")


def running(path: Path, scene: Callable[[Feed], Coroutine[Any, Any, None]]) -> None:
    """Play a scene with a feed that is connected to the socket as soon as somebody listens there."""

    async def main() -> None:
        feed = Feed(path, SystemClock(), lambda viewers: SIGN, backoff=Backoff(0.01, 0.02))
        task = asyncio.create_task(feed.run())
        try:
            async with asyncio.timeout(20):
                await scene(feed)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


async def said(fake: FakeFeed, header: dict[str, Any], body: bytes = b"") -> None:
    await asyncio.to_thread(fake.say, header, body)


def test_page_says_that_it_lives_and_wants_nothing_for_nobody(tmp_path: Path) -> None:
    """Without a viewer the daemon is asked for no frame; signs of life come all the same."""

    async def scene(feed: Feed) -> None:
        want = await asyncio.to_thread(fake.wanted, lambda one: True)
        assert (want["cameras"], want["raw"]) == ({}, {})
        assert fake.messages[0] == SIGN.header()
        assert (await feed.hello_within(5))["epoch"] == "e1"

    with FakeFeed(tmp_path / "web.sock") as fake:
        running(tmp_path / "web.sock", scene)


def test_connection_that_ends_is_made_again_and_old_news_are_forgotten(tmp_path: Path) -> None:
    """A state and a frame from before the cut are not given to anybody; those after it are."""

    async def scene(feed: Feed) -> None:
        await said(fake, state_of())
        await said(fake, frame_of(1), b"a")
        assert await feed.state(5) is not None
        assert (await feed.frame("top", None, 5)).key == "e1.1"
        seen = feed.changes
        fake.cut()
        while feed.hello is not None:
            await feed.changed(seen, 5)
            seen = feed.changes
        assert await feed.state(0) is None
        assert await feed.frame("top", None, 0) is None
        await said(fake, state_of(verdict="degraded"))
        assert (await feed.state(5))[2]["verdict"] == "degraded"

    with FakeFeed(tmp_path / "web.sock") as fake:
        running(tmp_path / "web.sock", scene)


def test_daemon_may_come_later(tmp_path: Path) -> None:
    """And a socket without a daemon, a folder that is missing, and nonsense on the socket do no harm."""

    async def scene(feed: Feed) -> None:
        assert await feed.state(0.1) is None
        with FakeFeed(tmp_path / "web.sock") as fake:
            assert await feed.hello_within(5) is not None
            await said(fake, {"kind": "event"})  # without its fields
            while await feed.state(0.1) is None:  # the first ones are lost with the connection
                with suppress(OSError):
                    await said(fake, state_of())

    running(tmp_path / "web.sock", scene)


def test_wishes_of_viewers_are_one_want(tmp_path: Path) -> None:
    """The largest rate and picture that somebody wants; the key of a frame includes the epoch."""

    async def scene(feed: Feed) -> None:
        both = asyncio.gather(
            feed.frame("top", "e0.5", 10, max_fps=1, longest_px=1600),
            feed.frame("top", None, 10, max_fps=5, longest_px=800),
        )
        await asyncio.to_thread(fake.wanted, lambda one: one["cameras"] == {"top": {"max_fps": 5, "longest_px": 1600}})
        await said(fake, frame_of(5), b"jpeg")
        one, other = await both
        assert one is other
        assert (one.key, one.jpeg) == ("e1.5", b"jpeg")
        assert await feed.frame("top", "e1.5", 0) is None

    with FakeFeed(tmp_path / "web.sock") as fake:
        running(tmp_path / "web.sock", scene)


def test_unscaled_frames_are_asked_for_as_they_are_taken(tmp_path: Path) -> None:
    """Never more than a few are on their way; one taker at a time; the time ends it."""

    async def scene(feed: Feed) -> None:
        taken = []

        async def take() -> None:
            taken.extend([frame.number async for frame in feed.raw_frames("top", 6, 10)])

        task = asyncio.create_task(take())
        for number in range(1, 7):
            await asyncio.to_thread(until, lambda: sum(asked()) >= number)  # noqa: B023 (called at once)
            assert sum(asked()) < number + 4
            await said(fake, {"kind": "raw", "camera": "top", "number": number, "size_px": [2, 1]}, b"ab")
            if number == 3:
                with pytest.raises(ValueError, match="somebody"):
                    await anext(feed.raw_frames("top", 1, 1))
        await task
        assert taken == [1, 2, 3, 4, 5, 6]
        assert [frame async for frame in feed.raw_frames("top", 1, 0.05)] == []

    def asked() -> list[int]:
        return [want["raw"].get("top", 0) for want in list(fake.messages) if want["kind"] == "want"]

    with FakeFeed(tmp_path / "web.sock") as fake:
        running(tmp_path / "web.sock", scene)


def test_slow_viewer_loses_the_oldest_events(tmp_path: Path) -> None:
    """The gap in seq shows it, and the memory does not grow."""

    async def scene(feed: Feed) -> None:
        with feed.subscribed() as subscription:
            for seq in range(1, MAX_EVENTS + 11):
                await said(fake, {"kind": "event", "seq": seq, "payload": {}})
            while not subscription.events or subscription.events[-1][0] < MAX_EVENTS + 10:
                await feed.changed(feed.changes, 5)
            assert [seq for seq, _ in subscription.events] == list(range(11, MAX_EVENTS + 11))
        assert feed.viewers == 0

    with FakeFeed(tmp_path / "web.sock") as fake:
        running(tmp_path / "web.sock", scene)


def test_long_description_of_a_frame_keeps_the_worst() -> None:
    """A header has a limit: the worst regions stay, the number of the others is given, and the text is ASCII."""
    regions = [
        {"track_id": f"t{n}", "class": "ü" * 20, "severity": ("minor", "critical")[n == 150], "confidence": n / 200}
        for n in range(200)
    ]
    text = frame_text({"camera": "top", "number": 1, "regions": regions})
    found = json.loads(text)
    assert len(text) <= MAX_HEADER_CHARACTERS
    assert text.isascii()
    assert found["regions"][0]["severity"] == "critical"
    assert found["regions"][1]["track_id"] == "t199"
    assert found["regions_left_out"] == 200 - len(found["regions"])
    assert json.loads(frame_text({"regions": regions[:1]}))["regions_left_out"] == 0
