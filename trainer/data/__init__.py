"""The data: folders of pictures, splits, near duplicates, training tiles, corruptions."""
