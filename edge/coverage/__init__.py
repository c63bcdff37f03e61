"""Coverage: which part of the strip was inspected, and where it lies."""
