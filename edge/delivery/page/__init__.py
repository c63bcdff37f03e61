"""The feed of the page: frames, states and events of the running node, over a unix socket."""
