"""Sweeps: a design becomes arms, arms meet the faults in blocks, and the best settings are said."""
