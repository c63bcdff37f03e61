"""Builds the model that the edge runs: pictures in class folders in, a bundle out."""
