"""Inspection: a frame goes in, a verdict comes out. Nothing here knows of cameras or brokers."""
