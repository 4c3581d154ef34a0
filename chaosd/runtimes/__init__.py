"""Where the topology lives: one file per runtime."""
