"""Evidence: pictures of defects, and tiles for people to label."""
