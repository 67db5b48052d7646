"""Simulation. Five rooms, each of which may import those named after it: ``runs`` (what commands start),
``runtimes`` (the Flower grids), ``loop`` (the rounds), ``clients`` (a client at work, alone or in a cohort),
``world`` (who holds what, and every check beforehand).

May import from ``results`` downwards. Begin with :func:`fedkt.engine.runs.run.simulate`.
"""
