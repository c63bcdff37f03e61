"""The outbox: every event on disk until the broker has confirmed it."""
