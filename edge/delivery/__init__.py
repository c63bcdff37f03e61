"""Delivery: the outbox is the record, the publisher empties it into a broker."""
