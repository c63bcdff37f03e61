"""Trains the model that the daemon runs: class folders of pictures in, a bundle out."""
