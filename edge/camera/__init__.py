"""Cameras: one child process each, frames through shared memory, one supervisor that restarts."""
