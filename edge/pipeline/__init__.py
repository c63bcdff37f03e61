"""The inspection loop: frames in, events out."""
