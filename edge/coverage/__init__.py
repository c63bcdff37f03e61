"""What of the strip was inspected, and where."""
