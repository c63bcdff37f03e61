"""Slows down who guesses passwords: five failures a minute for each name and each address."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from edge.host.token_bucket import TokenBucket

FAILURES: Final = 5
PER_S: Final = FAILURES / 60
MAX_KEYS: Final = 2000


class LoginLimit:
    """Owned by the loop of the page process."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        """The one used last is at the end; the first leaves when there are too many."""

    def take(self, name: str, address: str, now_ns: int) -> bool:
        """Count one attempt.  False: too many lately, and this one is not to be tried."""
        taken = [self._bucket(key, now_ns).take(now_ns) for key in (f"name {name}", f"address {address}")]
        return all(taken)

    def succeeded(self, name: str, address: str) -> None:
        """The attempt was right: earlier ones were typing errors."""
        for key in (f"name {name}", f"address {address}"):
            self._buckets.pop(key, None)

    def _bucket(self, key: str, now_ns: int) -> TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(PER_S, FAILURES, now_ns)
            if len(self._buckets) > MAX_KEYS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket
