"""HAProxy's algorithm without HAProxy: settings and a timeline in, a trace or a prediction out.

`settings.py` is what the algorithm goes by. `algorithm.py` is its resolver, checks and retries, as
events on a virtual clock. `closed_forms.py` bounds a recovery in formulas, and `trials.py` runs the
algorithm in many phases: two descriptions that are held against each other.
"""
