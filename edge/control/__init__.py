"""Starting, changing and commanding a node."""
