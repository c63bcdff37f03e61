"""Small real things to test with: one noun in each module."""
