"""HAProxy's algorithm without HAProxy: settings and a timeline in, a trace or a prediction out.

The algorithm is of a whole backend (`backend.py`): polls in `resolution.py`, servers and their
checks in `server.py`, retries in `requests.py`, all together in `algorithm.py`. Two questions are
put to it. What is the recovery of one name's move (`settings.py`, `predicting.py`)? The formulas of
`closed_forms.py` bound it, and `trials.py` runs the algorithm in many phases: two descriptions that
are held against each other. What do the users of any backend see (`outlook.py`)? `scene.py` is what
happens to it, `users.py` what becomes of requests.
"""
