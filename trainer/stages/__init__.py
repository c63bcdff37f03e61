"""The stages of a training: what each of them reads and makes."""
