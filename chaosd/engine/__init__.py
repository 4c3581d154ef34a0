"""The loop: a run, its cells, their cycles, and when each begins."""
