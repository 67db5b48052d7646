"""Forgetting, and proof of it: what is asked for (``asked``), a run again without it (``withdrawal``), a
client's own run again (``own_run``), a fresh student (``student``), a run that goes on with a client's new
model (``continued``); what the result is judged by (``numbers``, ``judge``) and how it is told (``told``).

May import from ``engine.runs`` downwards. Begin with ``withdrawal``.
"""
