"""The Sparkplug B output."""
