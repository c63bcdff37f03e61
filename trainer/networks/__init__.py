"""The networks: teacher and student."""
