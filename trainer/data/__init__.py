"""Pictures for training: folders, samples, near duplicates, corruptions."""
