"""How often, and after which pauses, the publisher sends events again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Retries:
    """Settings that only tests change."""

    first_hold_s: float = 1.0
    """Before unconfirmed events are sent again, when the broker puts events off; doubles up to `max_hold_s`."""
    max_hold_s: float = 30.0
    returned_s: float = 1.0
    """Between two checks for dead letters that were put back."""
    poison_strikes: int = 8
    """Connections lost in a row with the same event alone in flight, until that event counts as the cause."""


DEFAULT_RETRIES: Final = Retries()
