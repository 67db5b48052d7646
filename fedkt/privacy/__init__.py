"""Differential privacy: ``modes`` (whom each protects, what is noised), ``mechanisms``, DP-SGD (``dpsgd``,
``clipping``), ``accounting``, the ``ledger`` of what was paid, and the ``statement`` of what may be claimed.

May import from ``models`` downwards. Begin with ``modes``; where noise meets a client:
``engine/world/guard.py``.
"""
