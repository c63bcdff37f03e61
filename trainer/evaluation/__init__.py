"""What a model is worth, measured as it ships."""
