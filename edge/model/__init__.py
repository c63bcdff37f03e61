"""The network: its bundle, its classifier, and the installed models."""
