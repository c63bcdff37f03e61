"""The record of each coil: an output that reads the outbox, and writes files that the page and the report read."""
