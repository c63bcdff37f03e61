"""Inspection of one frame: pixels go in, a verdict comes out. No module here knows cameras or brokers."""
