"""What is kept of a run and shown of it: its ``folder``, its ``result`` read back, metrics, pictures,
trackers; ``comparison`` and ``report`` are built on these.

May import from ``strategy`` downwards. Begin with :class:`fedkt.results.folder.RunFolder`.
"""
