"""The machine under the daemon: clock, files, threads, service manager, logs."""
