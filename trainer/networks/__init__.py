"""The networks: teacher, student and their parts."""
