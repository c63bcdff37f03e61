"""The feed of the page: what the node does now, over a unix socket, for the process that serves the page."""
