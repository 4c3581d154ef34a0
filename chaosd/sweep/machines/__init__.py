"""A sweep over several machines, by dask.distributed.

A task is a round: one worker makes it in a process of its own (`child.py`), and all of its run
directory is brought here (`bring.py`). `worker.py` is what runs on the worker, `crew.py` decides
who makes what, and `joining.py` opens the way to the workers.
"""
