"""A browser for each file of tests of the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from chromium import chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Not for the whole session: Playwright keeps a loop of asyncio on this thread as long as it runs."""
    with chromium() as running:
        yield running
