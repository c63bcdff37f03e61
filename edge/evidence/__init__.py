"""Pictures that are kept."""
