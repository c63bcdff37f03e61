"""How the node is doing."""
