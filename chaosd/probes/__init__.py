"""How we ask: one file per probe, and host.py, the process that fires them on time."""
