"""Predictions of whole backends against a real HAProxy: `tests/bench/shapes.py` runs it."""
