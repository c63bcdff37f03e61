<<<<<<< HEAD
"""The feed of the page: what the node does now, over a unix socket, for the process that serves the page."""
=======
"""The feed of the page: frames, states and events of the running node for the page process, over a unix socket."""
>>>>>>> p-server
