"""The feed of the page: frames, states and events of the running node for the page process, over a unix socket."""
